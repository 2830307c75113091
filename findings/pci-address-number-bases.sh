#!/usr/bin/env bash
# The same digits of a PCI address are another number for libvirt, for QEMU and for lspci.
#
# Guessed: libvirt reads bus='10' and bus='010' alike, as its CPU lists do, and QEMU's addr=10 is ten,
#          as addr=0x10 exists for hex.
# So is:   in libvirt's XML bus='10' is decimal (0x0a) and bus='010' octal (0x08), while cpuset='010' is
#          CPU 10. QEMU's addr=10 is hex (slot 16), with "0x" or without, and addr=31 is no slot.
#          In QEMU's JSON "addr":"10" is that as well, but the number 16 is slot 2: it counts functions,
#          eight for each slot. lspci prints hex without "0x".
# Met by:  who copies 01:10.0 of lspci into XML without "0x", and passes through another function.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), QEMU 10.0.13 (Debian 1:10.0.13+ds-0+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

bus() {
    defined "<vcpu>2</vcpu>" "" "<hostdev mode='subsystem' type='pci' managed='yes'><source>
        <address domain='0' bus='$1' slot='0' function='0'/></source></hostdev>" |
        grep -A3 '<hostdev' | grep -o "bus='[^']*'"
}
expect "libvirt, bus='10'" "bus='0x0a'" "$(bus 10)"
expect "libvirt, bus='010'" "bus='0x08'" "$(bus 010)"
expect "libvirt, bus='0x10'" "bus='0x10'" "$(bus 0x10)"
expect "libvirt, cpuset='010'" "cpuset='10'" \
    "$(defined "<vcpu cpuset='010'>2</vcpu>" "" "" | grep -o "cpuset='[^']*'")"

# slot ADDR, or slot JSON
slot() {
    local device=virtio-rng-pci,id=rng,addr=$1
    [[ $1 != '{'* ]] || device=$1
    printf '{"execute":"%s"}\n' qmp_capabilities query-pci quit |
        inside qemu-system-x86_64 -machine pc -nodefaults -display none -S -qmp stdio \
            -device "$device" 2>&1 |
        grep -oE '"slot": [0-9]+, "class_info": \{"class": 255|take value.*' | grep -oE '[0-9]+|take.*' |
        head -1
}
expect "QEMU, addr=10" 16 "$(slot 10)"
expect "QEMU, addr=0x10" 16 "$(slot 0x10)"
expect "QEMU, addr=31" "take value '31'" "$(slot 31)"
json='{"driver":"virtio-rng-pci","multifunction":true,"addr":'
expect 'QEMU, "addr":"10"' 16 "$(slot "$json\"10\"}")"
expect 'QEMU, "addr":16' 2 "$(slot "${json}16}")"
found
