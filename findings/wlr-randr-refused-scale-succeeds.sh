#!/usr/bin/env bash
# wlr-randr ends with 0 when the compositor refuses a scale.
#
# Guessed: another exit code, as for an unknown output or mode.
# So is:   a scale of 0 is a protocol error, which is printed, and the exit code is 0. The scale stays as it was.
#          What wlr-randr itself finds wrong ends with 1.
# Met by:  who computes the scale of a monitor and relies on the exit code.
# Seen:    wlr-randr 0.4.1 (Debian 0.4.1-1) with sway 1.10.1.
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie sway=1.10.1-2 wlr-randr=0.4.1-1 dbus-daemon jq grep base-files bash \
    coreutils

wlroots <<'SESSION'
under sway -c /tmp/empty
timeout 20 wlr-randr --output HEADLESS-1 --scale 0 2>&1
echo "exit $?"
scale
timeout 20 wlr-randr --output HEADLESS-1 --mode 999x999 2>&1
echo "exit $?"
SESSION
expect "scale 0" "[destroyed object]: error 5: invalid scale exit 0 1.000000" \
    "$(sed -n 1,3p "$temp/seen" | paste -sd' ')"
expect "an unknown mode" "unknown mode: 999x999 exit 1" "$(sed -n 4,5p "$temp/seen" | paste -sd' ')"
found
