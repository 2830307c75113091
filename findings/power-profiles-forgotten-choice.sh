#!/usr/bin/env bash
# After its restart, power-profiles-daemon goes back to "balanced" when a hold ends, whatever was chosen.
#
# Guessed: the end of a hold brings back the profile that was active when it began. The daemon keeps the
#          chosen one in a file, and sets it again when it starts.
# So is:   it sets that one, but the end of a hold brings "balanced" until somebody chooses a profile again.
# Met by:  who has chosen power-saver, boots, and runs something with powerprofilesctl launch.
# Seen:    power-profiles-daemon 0.30 (Debian 0.30-1.1). 0.12 does the same.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie power-profiles-daemon=0.30-1.1 polkitd=126-2 dbus-daemon systemd base-files bash \
    coreutils grep mawk
ln -s mawk "$root/usr/bin/awk"
printf 'root:x:0:0::/root:/bin/sh\npolkitd:x:996:996::/:/bin/false\n' >"$root/etc/passwd"
printf 'root:x:0:\npolkitd:x:996:\n' >"$root/etc/group"
mkdir -p "$root"/var/lib/power-profiles-daemon "$root"/run/dbus
cat >"$root/tmp/bus.conf" <<'XML'
<busconfig><type>system</type><listen>unix:path=/tmp/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/>
<allow send_type="signal"/><allow send_requested_reply="true"/><allow receive_type="signal"/>
<allow receive_type="method_call"/><allow receive_type="method_return"/>
<allow receive_type="error"/></policy></busconfig>
XML
cat >"$root/tmp/try" <<'SH'
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=/tmp/bus POWER_PROFILE_DAEMON_FAKE_DRIVER=1
name=net.hadess.PowerProfiles
place=(--address="$DBUS_SYSTEM_BUS_ADDRESS" --timeout=20)
shown() { busctl "${place[@]}" get-property $name /net/hadess/PowerProfiles $name "$1"; }
start() {
    # The driver that only pretends ends with its standard input.
    sleep 60 | /usr/libexec/power-profiles-daemon >/dev/null 2>&1 &
    until shown ActiveProfile >/dev/null 2>&1; do sleep 0.1; done
}
hold() {
    # It ends when the connection of this call is closed.
    busctl "${place[@]}" call $name /net/hadess/PowerProfiles $name HoldProfile sss performance \
        why who >/dev/null
    while shown ActiveProfileHolds | grep -q performance; do sleep 0.1; done
}
dbus-daemon --config-file=/tmp/bus.conf --nofork --nopidfile 2>/dev/null &
until [[ -S /tmp/bus ]]; do sleep 0.1; done
chmod 666 /tmp/bus
/usr/lib/polkit-1/polkitd --no-debug >/dev/null 2>&1 &
start
busctl "${place[@]}" set-property $name /net/hadess/PowerProfiles $name ActiveProfile s power-saver
hold
echo "after a hold: $(shown ActiveProfile)"
kill "$(busctl "${place[@]}" --no-legend list | awk -v name=$name '$1 == name { print $2 }')"
while shown ActiveProfile >/dev/null 2>&1; do sleep 0.1; done
start
echo "restarted: $(shown ActiveProfile)"
hold
echo "after a hold: $(shown ActiveProfile)"
SH

expect "chosen, held, restarted, held" 'after a hold: s "power-saver"
restarted: s "power-saver"
after a hold: s "balanced"' "$(inside bash /tmp/try)"
found
