#!/usr/bin/env bash
# mdevctl keeps a mediated device for a parent and a type that do not exist, and then cannot say what is wrong.
#
# Guessed: `mdevctl define` refuses a parent that is not in /sys, an address without its domain, and a type
#          that the parent does not offer.
# So is:   each is stored with exit code 0, also to be made at each boot (--auto). A second definition for
#          the same parent, written another way, is another device. `mdevctl start` then says "No such file
#          or directory" and names neither the parent nor the type.
# Met by:  who takes the parent from lspci, which leaves out 0000:, or from another machine.
# Seen:    mdevctl 1.4.0 (Debian 1.4.0-2+b1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie mdevctl=1.4.0-2+b1 base-files bash coreutils
mkdir -p "$root/etc/mdevctl.d"

define() {
    inside mdevctl define --uuid "$1" --parent "$2" --type "$3" "${@:4}" 2>&1
    echo "exit $?"
}
one=11111111-2222-3333-4444-555555555555
other=11111111-2222-3333-4444-666666666666
expect "a parent that is not there" "exit 0" "$(define $one 0000:fe:1f.7 nvidia-63)"
expect "an address without its domain" "exit 0" "$(define $other fe:1f.7 no-such-type --auto)"
expect "what is kept" "$one 0000:fe:1f.7 nvidia-63 manual / $other fe:1f.7 no-such-type auto" \
    "$(inside mdevctl list --defined | sort | paste -sd/ | sed 's,/, / ,g')"
expect "its start" "Error: No such file or directory (os error 2)" \
    "$(inside mdevctl start --uuid $one 2>&1 | head -1)"
found
