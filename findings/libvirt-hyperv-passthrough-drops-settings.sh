#!/usr/bin/env bash
# Beside <hyperv mode='passthrough'> libvirt throws single enlightenments away.
#
# Guessed: an error, or the single ones are kept and change what is passed through.
# So is:   <relaxed state='off'/> or <vendor_id .../> inside it are accepted by `virsh define` and are
#          not in the stored XML. The schema finds such XML invalid, but define does not ask it.
# Met by:  who switches a Windows VM to passthrough mode and still hides the hypervisor from a driver
#          by vendor_id, or has one enlightenment off because it disturbs.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

hyperv() {
    echo "<features><acpi/><hyperv mode='$1'><relaxed state='off'/>" \
        "<vendor_id state='on' value='host'/></hyperv></features>"
}
kept() {
    defined "<vcpu>2</vcpu>" "$(hyperv "$1")" "" | grep -oE '<(hyperv|relaxed|vendor_id)[^>]*' | paste -sd' '
}
expect "custom" "<hyperv mode='custom' <relaxed state='off'/ <vendor_id state='on' value='host'/" \
    "$(kept custom)"
expect "passthrough" "<hyperv mode='passthrough'" "$(kept passthrough)"
expect "the schema on passthrough" invalid "$(by_schema "<vcpu>2</vcpu>" "$(hyperv passthrough)" "")"
found
