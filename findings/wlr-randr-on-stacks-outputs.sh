#!/usr/bin/env bash
# An output that wlr-randr switches off and on again lies on top of another one.
#
# Guessed: it comes back where it was, or to the right of the others, as at the compositor's start.
# So is:   --on without --pos puts it at 0,0, under sway as under labwc. labwc moreover moves an output that
#          was not named: the one at 0,0 goes to the right end as soon as its neighbour is off.
# Met by:  whose script switches the monitor of the VM's card off and on: two screens show the same part.
# Seen:    wlr-randr 0.4.1 (Debian 0.4.1-1), sway 1.10.1, labwc 0.8.3, three headless outputs.
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie sway=1.10.1-2 labwc=0.8.3-1 wlr-randr=0.4.1-1 dbus-daemon jq grep base-files bash \
    coreutils

wlroots <<'SESSION'
for compositor in "sway -c /tmp/empty" labwc; do
    # shellcheck disable=SC2086 # a command and its options
    under $compositor
    places
    randr --output HEADLESS-2 --off
    places
    randr --output HEADLESS-2 --on
    places
    kill %%
    wait
done
SESSION
expect "sway, at the start" "1:2560,0 2:1280,0 3:0,0" "$(sed -n 1p "$temp/seen")"
expect "sway, 2 off" "1:2560,0 2:null,null 3:0,0" "$(sed -n 2p "$temp/seen")"
expect "sway, 2 on" "1:2560,0 2:0,0 3:0,0" "$(sed -n 3p "$temp/seen")"
expect "labwc, at the start" "1:2560,0 2:1280,0 3:0,0" "$(sed -n 4p "$temp/seen")"
expect "labwc, 2 off" "1:2560,0 2:null,null 3:3840,0" "$(sed -n 5p "$temp/seen")"
expect "labwc, 2 on" "1:2560,0 2:0,0 3:3840,0" "$(sed -n 6p "$temp/seen")"
found
