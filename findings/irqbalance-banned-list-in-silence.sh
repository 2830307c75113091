#!/usr/bin/env bash
# irqbalance bans fewer CPUs, or none, where it cannot read IRQBALANCE_BANNED_CPULIST, and says nothing.
#
# Guessed: an error, or the notation of isolcpus= with a stride ("0-1:1") and "^" is understood.
# So is:   the list counts up to the first word that it cannot read: "0,^1" bans CPU 0 and "1-0,1", "0 1"
#          and "0-1:1" ban none. Neither the debug output nor the exit code tells of it.
# Met by:  who takes the VM's CPUs from the balancer with a list in libvirt's or the kernel's notation.
# Seen:    irqbalance 1.9.4 (Debian 1.9.4-1+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie irqbalance=1.9.4-1+deb13u1 base-files bash coreutils

# /proc is read-only in there: no interrupt of this machine is moved.
banned() {
    inside env "IRQBALANCE_BANNED_CPULIST=$1" irqbalance --debug --oneshot 2>&1 |
        grep -iE '^banned cpus|cpulist|cannot parse' | paste -sd' '
}
expect "0-1" "Banned CPUs: 00000003" "$(banned 0-1)"
expect "0,^1" "Banned CPUs: 00000001" "$(banned 0,^1)"
for list in "0-1:1" "0 1" 1-0,1 0x1 all; do
    expect "$list" "Banned CPUs: 00000000" "$(banned "$list")"
done
found
