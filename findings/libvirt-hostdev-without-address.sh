#!/usr/bin/env bash
# libvirt takes an empty <address/> of a passed-through device: it is the host bridge.
#
# Guessed: bus and slot are required.
# So is:   every part that is missing is 0. `virsh define` and the schema both accept <address/>,
#          which is 0000:00:00.0, the root of the PCI tree; a forgotten bus gives a function of bus 0.
# Met by:  who writes a <hostdev> by hand or by script with an empty variable.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

hostdev() {
    echo "<hostdev mode='subsystem' type='pci' managed='yes'><source><address $1/></source></hostdev>"
}
source_of() {
    defined "<vcpu>2</vcpu>" "" "$(hostdev "$1")" | grep -A3 '<hostdev' | grep -o '<address.*'
}
zero="<address domain='0x0000' bus='0x00' slot='0x00' function='0x0'/>"
expect "<address/>" "$zero" "$(source_of "")"
expect "only a slot" "${zero/slot=\'0x00/slot=\'0x02}" "$(source_of "slot='0x02'")"
expect "the schema on <address/>" valid "$(by_schema "<vcpu>2</vcpu>" "" "$(hostdev "")")"
found
