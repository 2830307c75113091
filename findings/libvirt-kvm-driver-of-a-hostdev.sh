#!/usr/bin/env bash
# libvirt still accepts <driver name='kvm'/> for a passed-through device, and fails at the start.
#
# Guessed: refused by `virsh define` with a word on vfio, since the old KVM assignment left the kernel in
#          4.12, years ago.
# So is:   the schema and define accept it. Only the command line cannot be made, with an "internal error"
#          that names no device.
# Met by:  who takes over XML of an old guide or machine.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver; no IOMMU is needed to see it.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

device="<hostdev mode='subsystem' type='pci' managed='yes'><driver name='kvm'/><source>
    <address domain='0' bus='1' slot='0' function='0'/></source></hostdev>"
expect "the schema" valid "$(by_schema "<vcpu>2</vcpu>" "" "$device")"
expect "define" "<driver name='kvm'/>" \
    "$(defined "<vcpu>2</vcpu>" "" "$device" | grep -o '<driver.*')"
expect "the command line" "error: internal error: invalid PCI passthrough type 'kvm'" \
    "$(virsh_here 'domxml-to-native qemu-argv /tmp/vm.xml' | grep 'internal error')"
found
