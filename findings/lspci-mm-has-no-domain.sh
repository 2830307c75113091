#!/usr/bin/env bash
# One device behind VMD makes plain lspci write every address with its domain, but not lspci -mm.
#
# Guessed: both forms write an address alike.
# So is:   as soon as there is a domain other than 0, plain lspci writes 0000:01:00.0 for the graphics card,
#          without -D. -mm and -vmm, the forms for scripts, go on with 01:00.0 and write 10000:e1:00.0
#          for the SSD: two lengths in one column. The domain has five digits.
# Met by:  whose script cuts the address out of lspci by columns, or adds "0000:" in front of it.
# Seen:    pciutils 3.13.0 (Debian 1:3.13.0-2), on a dump of a card and an NVMe SSD.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie pciutils=1:3.13.0-2 pci.ids base-files bash coreutils
cat >"$root/tmp/dump" <<'DUMP'
10000:e1:00.0 NVMe SSD
00: 4d 14 08 a8 06 00 10 00 00 02 08 01 00 00 00 00
10: 04 00 00 f0 00 00 00 00 00 00 00 00 00 00 00 00
20: 00 00 00 00 00 00 00 00 00 00 00 00 4d 14 01 a8
30: 00 00 00 00 40 00 00 00 00 00 00 00 0b 01 00 00

01:00.0 VGA
00: de 10 80 1b 07 00 10 00 a1 00 00 03 00 00 80 00
10: 00 00 00 f6 0c 00 00 e0 00 00 00 00 0c 00 00 f0
20: 00 00 00 00 01 e0 00 00 00 00 00 00 58 14 02 37
30: 00 00 00 00 60 00 00 00 00 00 00 00 0b 01 00 00

DUMP
addresses() {
    inside lspci -F /tmp/dump "$@" | grep -oE '([0-9a-f]+:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]' | paste -sd' '
}
expect "lspci" "0000:01:00.0 10000:e1:00.0" "$(addresses)"
expect "lspci -mm" "01:00.0 10000:e1:00.0" "$(addresses -mm)"
expect "lspci -vmm" "01:00.0 10000:e1:00.0" "$(addresses -vmm)"
sed -i 1,6d "$root/tmp/dump"
expect "lspci without the SSD" "01:00.0" "$(addresses)"
found
