#!/usr/bin/env bash
# A scale that wlr-randr prints and is given back can come out smaller.
#
# Guessed: what it prints can be written back.
# So is:   the protocol has 1/256 steps, of which six digits are printed, cut: 1.3333 is read as 1.332031,
#          which is just below 341/256, so writing it gives the next lower step, and sway, with
#          steps of 1/128, goes down by 1/128.
#          Then it stays: 1.324219 and 1.328125 are cut to what they are.
# Met by:  who saves a layout with a fractional scale and restores it: windows change their size a little.
# Seen:    wlr-randr 0.4.1 (Debian 0.4.1-1), sway 1.10.1, labwc 0.8.3.
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie sway=1.10.1-2 labwc=0.8.3-1 wlr-randr=0.4.1-1 dbus-daemon jq grep base-files bash \
    coreutils

wlroots <<'SESSION'
for compositor in "sway -c /tmp/empty" labwc; do
    # shellcheck disable=SC2086 # a command and its options
    under $compositor
    randr --output HEADLESS-1 --scale 1.3333
    scale
    for _ in 1 2; do
        randr --output HEADLESS-1 --scale "$(scale)"
        scale
    done
    kill %%
    wait
done
SESSION
expect "sway" "1.332031 1.324219 1.324219" "$(head -3 "$temp/seen" | paste -sd' ')"
expect "labwc" "1.332031 1.328125 1.328125" "$(tail -3 "$temp/seen" | paste -sd' ')"
found
