#!/usr/bin/env bash
# kscreen-doctor's words output.X.priority.N do not give the numbers that they name.
#
# Guessed: with each of four outputs given another number, each has that number afterwards.
# So is:   each word puts its output at place N of a list and shifts the others, so later words undo earlier
#          ones: 3, 4, 2, 1 gives 2, 4, 3, 1. Words in rising order of N come out as they were written.
# Met by:  who restores the order of monitors, of which the first is the primary one, by one command.
# Seen:    libkscreen 6.3.4 (Debian 4:6.3.4-1) with kwin_wayland 6.3.6, four virtual outputs.
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie kwin-wayland=4:6.3.6-1+deb13u1 libkscreen-bin=4:6.3.4-1 qt6-wayland dbus-daemon jq grep \
    base-files bash coreutils
kwin 4 <<'SESSION'
order() {
    local words=()
    while (($#)); do
        words+=("output.Virtual-${1%.*}.priority.${1#*.}")
        shift
    done
    timeout 20 kscreen-doctor "${words[@]}" &>/dev/null
    timeout 20 kscreen-doctor --json 2>/dev/null |
        jq -r '.outputs | sort_by(.name)[] | "\(.name[-1:]).\(.priority)"' | paste -sd' '
}
order 0.1 1.2 2.3 3.4
order 0.3 1.4 2.2 3.1
order 3.1 2.2 0.3 1.4
SESSION
expect "0.1 1.2 2.3 3.4" "0.1 1.2 2.3 3.4" "$(sed -n 1p "$temp/seen")"
expect "0.3 1.4 2.2 3.1" "0.2 1.4 2.3 3.1" "$(sed -n 2p "$temp/seen")"
expect "the same as 3.1 2.2 0.3 1.4" "0.3 1.4 2.2 3.1" "$(sed -n 3p "$temp/seen")"
found
