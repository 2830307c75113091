#!/usr/bin/env bash
# Sourced by the scripts about desktops, in place of debian.bash: compositors without a screen.
#
#   kwin COUNT <SCRIPT   runs it beside KWin with so many virtual outputs
#   wlroots <SCRIPT      runs it with these functions, for a compositor that it starts by under:
#       under COMMAND...  starts it, and waits until it has its three outputs
#       places            the position of each output, in one line
#       scale             that of HEADLESS-1
#       randr OPTION...   wlr-randr; an exit code other than 0 is printed
#
# What the script prints is in $temp/seen.
# shellcheck source=findings/debian.bash
. "$(dirname "${BASH_SOURCE[0]}")/debian.bash"

desktop() {
    mkdir -p "$root/tmp/run"
    chmod 700 "$root/tmp/run"
    printf '%s\n' root:x:0:0::/tmp:/bin/sh >"$root/etc/passwd"
    { echo 'export XDG_RUNTIME_DIR=/tmp/run HOME=/tmp LC_ALL=C.UTF-8' && cat; } >"$root/tmp/session"
    inside dbus-run-session -- bash /tmp/session 2>"$temp/errors" >"$temp/seen" || true
}

kwin() {
    { echo "outputs=$1" && _kwin && cat; } | desktop
}

wlroots() {
    { _wlroots && cat; } | desktop
}

_kwin() {
    cat <<'SESSION'
export QT_QPA_PLATFORM=offscreen KWIN_COMPOSE=Q
kwin_wayland --virtual --no-lockscreen --socket wayland-7 --output-count "$outputs" &>/dev/null &
for _ in $(seq 200); do
    [[ -S $XDG_RUNTIME_DIR/wayland-7 ]] && break
    sleep 0.1
done
export WAYLAND_DISPLAY=wayland-7 QT_QPA_PLATFORM=wayland
SESSION
}

_wlroots() {
    cat <<'SESSION'
export WLR_BACKENDS=headless WLR_RENDERER=pixman WLR_HEADLESS_OUTPUTS=3 WLR_LIBINPUT_NO_DEVICES=1
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
SESSION
}
