#!/usr/bin/env bash
# "010" in a CPU list is CPU 8 for systemd and CPU 10 for libvirt and tuned; "08" stops systemd.
#
# Guessed: every reader of a CPU list reads decimal numbers.
# So is:   systemd reads a leading 0 as octal and 0x as hex: CPUAffinity=010-9 is a range of two CPUs,
#          where a decimal one would be reversed, and 08 cannot be read. libvirt reads 010 as 10 and
#          refuses 0x10. tuned reads 010 as 10 and 0x10 as a mask, which is CPU 4.
# Met by:  who pads CPU numbers to line them up, 00-07 08-15, in AllowedCPUs= of a slice, in the VM's XML
#          and in a tuned profile.
# Seen:    systemd 257.13 (Debian 257.13-1~deb13u1), libvirt 11.3.0, tuned 2.25.1.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
debian trixie systemd=257.13-1~deb13u1 tuned=2.25.1-1 python3

systemd() {
    printf '[Service]\nExecStart=/bin/true\nCPUAffinity=%s\n' "$1" >"$root/tmp/a.service"
    inside systemd-analyze verify --man=no --recursive-errors=no /tmp/a.service 2>&1 |
        grep -oE 'Failed to parse CPU.*|Range.*' || true
}
expect "systemd, 010-9" "" "$(systemd 010-9)"
expect "systemd, 10-9" "Range '10-9' is invalid, 10 > 9, ignoring." "$(systemd 10-9)"
expect "systemd, 08" "Failed to parse CPU affinity '08'" "$(systemd 08)"

libvirt() {
    defined "<vcpu cpuset='$1'>2</vcpu>" "" "" | grep -oE "cpuset='.*'|Failed to parse.*"
}
expect "libvirt, 010" "cpuset='10'" "$(libvirt 010)"
expect "libvirt, 08" "cpuset='8'" "$(libvirt 08)"
expect "libvirt, 0x10" "Failed to parse bitmap '0x10'" "$(libvirt 0x10)"

tuned() {
    inside python3 -c "
from tuned.utils.commands import commands
print(commands(False).cpulist_unpack('$1'))"
}
expect "tuned, 010" "[10]" "$(tuned 010)"
expect "tuned, 0x10" "[4]" "$(tuned 0x10)"
found
