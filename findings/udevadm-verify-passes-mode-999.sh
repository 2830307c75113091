#!/usr/bin/env bash
# udevadm verify finds no fault in MODE="999", nor in a pattern with an open bracket.
#
# Guessed: it refuses a mode that is no octal number, as systemd-tmpfiles does.
# So is:   such a rule passes without a word, while a missing comma or an unknown group is reported. So does
#          KERNEL=="card[0", which can match nothing.
# Met by:  who checks the rule for /dev/kvmfr0 or /dev/vfio with it: the node keeps its old mode.
# Seen:    udev and systemd 257.13 (Debian 257.13-1~deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie systemd=257.13-1~deb13u1 udev=257.13-1~deb13u1 base-files bash coreutils
printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"

verify() {
    printf '%s\n' "$1" >"$root/tmp/a.rules"
    inside udevadm verify --no-summary /tmp/a.rules 2>&1 | grep ':1 ' || true
}
expect 'MODE="999"' "" "$(verify 'SUBSYSTEM=="kvmfr", MODE="999"')"
expect 'KERNEL=="card[0"' "" "$(verify 'KERNEL=="card[0", MODE="0600"')"
expect "a group that is not there" "/tmp/a.rules:1 Unknown group 'gamers', ignoring." \
    "$(verify 'SUBSYSTEM=="kvmfr", GROUP="gamers"')"

echo 'f /tmp/a 0999' >"$root/tmp/a.conf"
expect "tmpfiles.d" "/tmp/a.conf:1: Invalid mode '0999'." \
    "$(inside systemd-tmpfiles --create /tmp/a.conf 2>&1 || true)"
found
