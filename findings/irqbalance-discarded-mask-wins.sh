#!/usr/bin/env bash
# irqbalance says that IRQBALANCE_BANNED_CPUS is discarded, and lets it win over IRQBALANCE_BANNED_CPULIST.
#
# Guessed: of a mask in the old variable and a list in the new one the list counts, as its message says.
# So is:   the message comes whenever the mask is set. The mask counts all the same, and with both set
#          the list is not even read. "0x3" is no mask: it bans no CPU, and neither does then the list.
#          Either variable, also with a value that cannot be read, ends the ban of the CPUs of isolcpus=
#          and nohz_full=: irqbalance no longer looks for them.
# Met by:  who adds the list for the VM's CPUs to /etc/default/irqbalance, and leaves the mask of an older
#          guide there. [irqs] asks irqbalance itself which CPUs are banned, and does not read the file.
# Seen:    irqbalance 1.9.4 (Debian 1.9.4-1+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie irqbalance=1.9.4-1+deb13u1 base-files bash coreutils grep

# /proc is read-only in there: no interrupt of this machine is moved.
banned() {
    inside env "$@" irqbalance --debug --oneshot 2>&1 |
        grep -oE 'discarded|isolated CPUs|^Banned CPUs.*' | paste -sd' '
}
list=IRQBALANCE_BANNED_CPULIST=0
mask=IRQBALANCE_BANNED_CPUS
expect "neither" "isolated CPUs Banned CPUs: 00000000" "$(banned NONE=)"
expect "a list" "Banned CPUs: 00000001" "$(banned $list)"
expect "a mask" "discarded Banned CPUs: 00000002" "$(banned $mask=2)"
expect "both" "discarded Banned CPUs: 00000002" "$(banned $list $mask=2)"
expect "both, the mask with 0x" "discarded Banned CPUs: 00000000" "$(banned $list $mask=0x2)"
found
