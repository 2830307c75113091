#!/usr/bin/env bash
# kscreen-doctor's output.X.priority.0 switches the output off.
#
# Guessed: an error, or the first place, as the order begins with 0 in some versions of KWin.
# So is:   the output is disabled, as by output.X.disable, and the exit code is 0. Its number is 0 then, the
#          sign of a disabled output in the JSON of this version.
# Met by:  who writes the priorities of a saved layout back, with those that were 0.
# Seen:    libkscreen 6.3.4 (Debian 4:6.3.4-1) with kwin_wayland 6.3.6, two virtual outputs.
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie kwin-wayland=4:6.3.6-1+deb13u1 libkscreen-bin=4:6.3.4-1 qt6-wayland dbus-daemon jq grep \
    base-files bash coreutils
kwin 2 <<'SESSION'
state() {
    timeout 20 kscreen-doctor --json 2>/dev/null |
        jq -r '.outputs | sort_by(.name)[] | "\(.name) \(.enabled) \(.priority)"' | paste -sd,
}
state
timeout 20 kscreen-doctor output.Virtual-1.priority.0 &>/dev/null
echo "exit $?"
state
SESSION
expect "before" "Virtual-0 true 1,Virtual-1 true 2" "$(sed -n 1p "$temp/seen")"
expect "priority.0" "exit 0" "$(sed -n 2p "$temp/seen")"
expect "after" "Virtual-0 true 1,Virtual-1 false 0" "$(sed -n 3p "$temp/seen")"
found
