#!/usr/bin/env bash
# gdctl, GNOME's own command for monitors, switches off each monitor that a `set` does not name.
#
# Guessed: it changes the monitors that it is told to, as xrandr, wlr-randr and kscreen-doctor do.
# So is:   `set` is the whole layout. Who is not named goes off; who is named without --scale or --transform
#          gets the defaults back. Two that are named without a place are both at 0,0, which is an
#          error, as is a layout without --primary. Nobody asks whether the new layout is to be kept.
# Met by:  who wants to switch the second card's monitor off, or just its scale, before a VM starts.
# Seen:    gdctl and mutter 48.7 (Debian 48.7-0+deb13u1).
# shellcheck source=findings/desktop.bash
set -euo pipefail
. "$(dirname "$0")/desktop.bash"

debian trixie mutter=48.7-0+deb13u1 mutter-common-bin=48.7-0+deb13u1 dbus-daemon python3-gi \
    gir1.2-glib-2.0 gsettings-desktop-schemas libglib2.0-bin libc-bin base-files bash coreutils sed grep
inside glib-compile-schemas /usr/share/glib-2.0/schemas
desktop <<'SESSION'
mutter --headless --wayland --no-x11 --virtual-monitor 2560x1440@60 --virtual-monitor 1280x800@60 \
    &>/dev/null &
for _ in $(seq 200); do
    gdctl show &>/dev/null && break
    sleep 0.1
done
# Each monitor that is on, after its place, scale and rotation.
layout() {
    gdctl show | sed '1,/^Logical/d' |
        sed -nE 's/.*(Position|Scale|Transform): //p; s/.*──(Meta-[0-9]) .*/\1;/p' | paste -sd' '
}
layout
gdctl set --logical-monitor --primary --monitor Meta-0 --scale 2 --transform 90 \
    --logical-monitor --monitor Meta-1 --right-of Meta-0
layout
gdctl set --logical-monitor --primary --monitor Meta-0
layout
gdctl set --logical-monitor --primary --monitor Meta-0 --logical-monitor --monitor Meta-1 2>&1 ||
    echo "exit $?"
gdctl set --logical-monitor --monitor Meta-1 2>&1 || echo "exit $?"
SESSION
seen() { sed -n "$1" "$temp/seen"; }
expect "at first" "(0, 0) 1.0 normal Meta-0; (2560, 0) 1.0 normal Meta-1;" "$(seen 1p)"
expect "both are named" "(0, 0) 2.0 90 Meta-0; (1440, 0) 1.0 normal Meta-1;" "$(seen 2p)"
expect "one is named" "(0, 0) 1.0 normal Meta-0;" "$(seen 3p)"
expect "two without a place" "Failed to apply configuration: Logical monitors not adjacent
exit 1" "$(seen 4,5p)"
expect "without --primary" "Failed to apply configuration: Config is missing primary logical
exit 1" "$(seen 6,7p)"
found
