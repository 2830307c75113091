#!/usr/bin/env bash
# wlr-randr ends with 0 when the compositor refuses a scale.
#
# Guessed: another exit code, as for an unknown output or mode.
# So is:   a scale of 0 is a protocol error, which is printed, and the exit code is 0. The scale stays as it was.
#          What wlr-randr itself finds wrong ends with 1.
# Met by:  who computes the scale of a monitor and relies on the exit code.
# Seen:    wlr-randr 0.4.1 (Debian 0.4.1-1) with sway 1.10.1.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie sway=1.10.1-2 wlr-randr=0.4.1-1 dbus-daemon jq grep base-files bash \
    coreutils

desktop <<'SESSION'
export XDG_RUNTIME_DIR=/tmp/run HOME=/tmp WLR_BACKENDS=headless WLR_RENDERER=pixman
export WLR_HEADLESS_OUTPUTS=3 WLR_LIBINPUT_NO_DEVICES=1
places() {
    timeout 20 wlr-randr --json |
        jq -r 'sort_by(.name)[] | "\(.name[-1:]):\(.position.x),\(.position.y)"' | paste -sd' '
}
scale() {
    timeout 20 wlr-randr --json | jq -r '.[] | select(.name == "HEADLESS-1") | .scale'
}
randr() {
    timeout 20 wlr-randr "$@" || echo "exit $?"
}
under() {
    rm -f "$XDG_RUNTIME_DIR"/wayland-*
    "$@" &>/dev/null &
    for _ in $(seq 200); do
        for socket in "$XDG_RUNTIME_DIR"/wayland-?; do
            export WAYLAND_DISPLAY=${socket##*/}
        done
        [[ $(places 2>/dev/null) == *3:* ]] && break
        sleep 0.1
    done
}

: >/tmp/empty
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
