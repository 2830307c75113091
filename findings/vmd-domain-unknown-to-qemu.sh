#!/usr/bin/env bash
# A PCI domain of five digits, as Intel's VMD makes it, is accepted by libvirt and refused by QEMU.
#
# Guessed: what libvirt's schema and `virsh define` accept QEMU accepts.
# So is:   libvirt keeps domain='0x10000'. The host= of QEMU's vfio-pci, by which libvirt names a
#          device, takes four digits at most, and refuses the value before it looks for the device.
#          Its other option, sysfsdev=, takes the same device's path.
# Met by:  who passes through an NVMe SSD behind VMD; lspci shows it as 10000:e1:00.0.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), QEMU 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

device="<hostdev mode='subsystem' type='pci' managed='yes'><source>
    <address domain='0x10000' bus='0xe1' slot='0x00' function='0x0'/></source></hostdev>"
expect "the schema" valid "$(by_schema "<vcpu>2</vcpu>" "" "$device")"
expect "libvirt keeps" "domain='0x10000' bus='0xe1'" \
    "$(defined "<vcpu>2</vcpu>" "" "$device" | grep -A3 '<hostdev' | grep -o "domain='.*bus='[^']*'")"
qemu() {
    inside qemu-system-x86_64 -machine q35 -nodefaults -display none -S -device "vfio-pci,$1" \
        2>&1 </dev/null | grep -oE "Property.*|no such host device" || true
}
expect "QEMU on host=" "Property 'vfio-pci.host' doesn't take value '10000:e1:00.0'" \
    "$(qemu host=10000:e1:00.0)"
expect "QEMU on sysfsdev=" "no such host device" \
    "$(qemu sysfsdev=/sys/bus/pci/devices/10000:e1:00.0)"
found
