#!/usr/bin/env bash
# libvirt accepts a timer twice, once on and once off, and hands both on to QEMU.
#
# Guessed: an error, as for a vCPU pinned twice, or that the first or last one is kept.
# So is:   both stand in the stored XML and in the command line, as hpet=on,hpet=off, where QEMU lets the
#          last one count. The schema finds it valid.
# Met by:  who adds advice on timers to <clock> and does not see that the timer is there already.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

clock() {
    echo "<clock offset='utc'><timer name='hpet' present='$1'/><timer name='hpet' present='$2'/></clock>"
}
kept() {
    defined "<vcpu>2</vcpu>" "$(clock "$@")" "" | grep -o '<timer.*' | paste -sd' '
}
expect "stored" "<timer name='hpet' present='yes'/> <timer name='hpet' present='no'/>" "$(kept yes no)"
expect "the schema" valid "$(by_schema "<vcpu>2</vcpu>" "$(clock yes no)" "")"

line() {
    domain_xml "<vcpu>2</vcpu>" "$(clock "$@")" "" >"$root/tmp/vm.xml"
    virsh_here 'domxml-to-native qemu-argv /tmp/vm.xml' | grep -oE 'hpet=[a-z]+' | paste -sd,
}
expect "yes, no" "hpet=on,hpet=off" "$(line yes no)"
expect "no, yes" "hpet=off,hpet=on" "$(line no yes)"

machine() {
    printf '{"execute":"qmp_capabilities"}
%s
{"execute":"quit"}
' \
        '{"execute":"qom-get","arguments":{"path":"/machine","property":"hpet"}}' |
        inside qemu-system-x86_64 -machine "q35,$1" -nodefaults -display none -S -qmp stdio 2>&1 |
        grep -oE '"return": (true|false)'
}
expect "QEMU on hpet=on,hpet=off" '"return": false' "$(machine hpet=on,hpet=off)"
expect "QEMU on hpet=off,hpet=on" '"return": true' "$(machine hpet=off,hpet=on)"
found
