#!/usr/bin/env bash
# What <qemu:override> and <qemu:commandline> say is lost without a word if one name in them is wrong.
#
# Guessed: an override for an alias that no device has is an error, at the latest when the VM starts. A
#          wrong namespace or place is an error of `virsh define`.
# So is:   the override of a missing device is kept in the XML and does nothing: QEMU's command line is
#          the same as without it. With another namespace address, or inside of <devices>, the whole
#          element is dropped.
# Met by:  who sets a vfio-pci property such as x-igd-opregion, and counts the <hostdev> from 1.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver; no IOMMU is needed to see it.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

right=http://libvirt.org/schemas/domain/qemu/1.0
override() {
    echo "<qemu:override xmlns:qemu='$1'><qemu:device alias='$2'><qemu:frontend>
        <qemu:property name='free-page-hint' type='bool' value='true'/>
        </qemu:frontend></qemu:device></qemu:override>"
}
# native NAMESPACE ALIAS: how often QEMU is given the property.
native() {
    domain_xml "<vcpu>2</vcpu>" "$(override "$1" "$2")" "<memballoon model='virtio'/>" >"$root/tmp/vm.xml"
    virsh_here 'domxml-to-native qemu-argv /tmp/vm.xml' | grep -o '"free-page-hint":true' | wc -l
}
expect "for balloon0, the first one" 1 "$(native $right balloon0)"
expect "for balloon1, which is not there" 0 "$(native $right balloon1)"

# kept NAMESPACE DEVICES: whether the element is still in the defined XML.
kept() {
    defined "<vcpu>2</vcpu>" "$1" "$2" | grep -c '<qemu:override\|error:' || true
}
expect "the right namespace" 1 "$(kept "$(override $right balloon1)" "")"
expect "the address with 1.1" 0 "$(kept "$(override ${right/1.0/1.1} balloon1)" "")"
expect "inside of <devices>" 0 "$(kept "" "$(override $right balloon1)")"
found
