#!/usr/bin/env bash
# virt-install breaks --cputune's vcpupin1 into two halves where there is no vcpupin0.
#
# Guessed: the number tells only which words belong to one element.
# So is:   it is an index. One that is beyond the elements that there are makes a new element with each
#          word: one has the vCPU, the next one the CPUs. The words after that find an element at their
#          index and are whole again. Neither virt-install nor its dry run finds a fault.
# Met by:  who pins vCPUs 2 and 3 by vcpupin2 and vcpupin3, or takes out the first pin of a line.
# Seen:    virt-install 5.0.0 (Debian 1:5.0.0-5+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie virtinst=1:5.0.0-5+deb13u1 libvirt-daemon base-files bash coreutils ca-certificates
prepare_virt_install

# pins NUMBER...: the elements for one pin of this number each.
pins() {
    local number words=""
    for number; do
        words+="vcpupin$number.vcpu=$number,vcpupin$number.cpuset=1$number,"
    done
    virt_install --vcpus 4 --cputune "${words%,}" | grep -o '<vcpupin.*' | paste -sd' '
}
expect "0 and 1" '<vcpupin vcpu="0" cpuset="10"/> <vcpupin vcpu="1" cpuset="11"/>' "$(pins 0 1)"
expect "0 and 2" '<vcpupin vcpu="0" cpuset="10"/> <vcpupin vcpu="2"/> <vcpupin cpuset="12"/>' \
    "$(pins 0 2)"
expect "1" '<vcpupin vcpu="1"/> <vcpupin cpuset="11"/>' "$(pins 1)"
found
