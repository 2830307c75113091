#!/usr/bin/env bash
# `virsh vcpupin VM 0 r --config`, which resets a pin, writes one: to all CPUs that the host has just then.
#
# Guessed: the <vcpupin> is gone afterwards, as before the first pin.
# So is:   it has a list of all CPUs. `virsh emulatorpin VM r --config` does the same. A vCPU that had no
#          pin gets one. No command of virsh removes a pin alone; virt-xml --edit --cputune
#          clearxml=yes removes all of them, and `setvcpus --maximum` those of vCPUs that go.
# Met by:  who tries pins by command and takes them back: [cpus], [irqs] and [governor] take the CPUs that
#          vCPUs are pinned to, which are then all, and the VM's start is refused. After a CPU is added,
#          the VM may not use it.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
domain_xml "<vcpu>2</vcpu>" "<cputune><vcpupin vcpu='0' cpuset='0'/></cputune>" "" >"$root/tmp/vm.xml"

# The pins that the VM has after a command.
pins() {
    virsh_here "define /tmp/vm.xml; $1; dumpxml --inactive vm; undefine vm" |
        grep -oE "<(vcpu|emulator)pin .*/>" | paste -sd' '
}
all=0-$(($(nproc --all) - 1))
[[ $all != 0-0 ]] || all=0
expect "before" "<vcpupin vcpu='0' cpuset='0'/>" "$(pins "dominfo vm")"
expect "vcpupin 0 r" "<vcpupin vcpu='0' cpuset='$all'/>" "$(pins "vcpupin vm 0 r --config")"
expect "vcpupin 1 r" "<vcpupin vcpu='0' cpuset='0'/> <vcpupin vcpu='1' cpuset='$all'/>" \
    "$(pins "vcpupin vm 1 r --config")"
expect "emulatorpin r" "<vcpupin vcpu='0' cpuset='0'/> <emulatorpin cpuset='$all'/>" \
    "$(pins "emulatorpin vm r --config")"
found
