#!/usr/bin/env bash
# tuned answers that it has switched to a profile, and calls it active, before it has set it.
#
# Guessed: once switch_profile of tuned, or HoldProfile of tuned-ppd, has answered, the profile is set.
# So is:   both answer at once, and a thread of tuned sets the profile. Only the signal profile_changed tells when
#          that is done.
# Met by:  who holds the profile "performance" and then sets a CPU's governor: tuned may find it only then, takes it
#          for the host's own, and leaves it behind at its end.
# Seen:    tuned 2.25.1 (Debian 2.25.1-1); a script of the profile stands for what takes its time.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie tuned=2.25.1-1 python3 base-files bash coreutils

profiles=$root/etc/tuned/profiles
mkdir -p "$profiles"/{quick,slow} "$root/run/tuned"
echo "[main]" >"$profiles/quick/tuned.conf"
# shellcheck disable=SC2016 # for tuned
printf '%s\n' "[script]" 'script=${i:PROFILE_DIR}/set.sh' >"$profiles/slow/tuned.conf"
cat >"$profiles/slow/set.sh" <<'SH'
#!/bin/bash
[ "$1" = start ] || exit 0
until [ -e /tmp/may-go-on ]; do sleep 0.1; done
touch /tmp/is-set
SH
chmod +x "$profiles/slow/set.sh"

seen=$(inside python3 -c '
import os, time
from tuned.daemon import Application

controller = Application("quick").controller
controller.start("caller")
print(controller.switch_profile("slow", "caller"))
print(controller.active_profile("caller"), os.path.exists("/tmp/is-set"))
open("/tmp/may-go-on", "w").close()
end = time.monotonic() + 30
while not os.path.exists("/tmp/is-set") and time.monotonic() < end:
    time.sleep(0.1)
print(os.path.exists("/tmp/is-set"))
controller.stop("caller")
' 2>"$temp/log") || { cat "$temp/log" && exit 1; }
expect "the answer; what is active, and whether it is set; and later" \
    "(True, 'OK') slow False True" "$(xargs -d '\n' <<<"$seen")"
found
