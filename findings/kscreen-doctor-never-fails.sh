#!/usr/bin/env bash
# kscreen-doctor ends with 0 whatever went wrong.
#
# Guessed: an unknown output, mode or word, or a layout that KWin refuses, gives another exit code.
# So is:   all four end with 0, and only the error text tells. Names count in upper and lower case.
# Met by:  whose script switches monitors and goes on when the command "worked".
# Seen:    libkscreen 6.3.4 (Debian 4:6.3.4-1) with kwin_wayland 6.3.6, two virtual outputs.
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie kwin-wayland=4:6.3.6-1+deb13u1 libkscreen-bin=4:6.3.4-1 qt6-wayland dbus-daemon jq grep \
    base-files bash coreutils
kwin 2 <<'SESSION'
tell() {
    timeout 20 kscreen-doctor "$@" 2>&1 | grep -E 'not found|parse|not allowed' | paste -sd' '
    echo "exit ${PIPESTATUS[0]}"
}
tell output.virtual-1.disable
tell output.Virtual-1.mode.999x999@60
tell output.Virtual-1.off
tell output.Virtual-0.disable output.Virtual-1.disable
SESSION
expect "a name in lower case" "Output with name virtual-1 not found.
exit 0" "$(sed -n 1,2p "$temp/seen")"
expect "an unknown mode" "Output mode 999x999@60 not found.
exit 0" "$(sed -n 3,4p "$temp/seen")"
expect "an unknown word" "Unable to parse arguments: output.Virtual-1.off
exit 0" "$(sed -n 5,6p "$temp/seen")"
expect "all outputs off" "applying config failed! Disabling all outputs through configuration changes\
 is not allowed
exit 0" "$(sed -n 7,8p "$temp/seen")"
found
