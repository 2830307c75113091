#!/usr/bin/env bash
# A "# comment" behind a setting is part of it in each of five formats, and each makes something else of it.
#
# Guessed: it is cut off, or refused with an error.
# So is:   tmpfiles.d writes it into the new file: "# for me" is then the content of
#          /dev/shm/looking-glass. sysctl writes it with the value. modprobe.d hands it to the module
#          as more parameters. modules-load.d looks for a module of that whole name. A unit's
#          AllowedCPUs= is ignored. Only udev's checker warns of a missing comma.
# Met by:  who comments a line of a passthrough set-up where it is: six formats, one habit.
# Seen:    systemd 257.13 (Debian 257.13-1~deb13u1), kmod 34.2, procps 4.0.4.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie systemd=257.13-1~deb13u1 udev=257.13-1~deb13u1 kmod=34.2-2 procps=2:4.0.4-9 \
    base-files bash coreutils
mkdir -p "$root/tmp/shm"
printf 'root:x:0:0::/root:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\n' >"$root/etc/group"

echo 'f /tmp/shm/looking-glass 0660 root root - # for me' >"$root/tmp/a.conf"
inside systemd-tmpfiles --create /tmp/a.conf
expect "tmpfiles.d" "# for me" "$(cat "$root/tmp/shm/looking-glass")"

echo 'vm.nr_hugepages = 8 # for me' >"$root/tmp/a.conf"
expect "sysctl.d" "vm.nr_hugepages = 8 # for me" "$(inside sysctl --dry-run --load=/tmp/a.conf)"

echo 'options vfio-pci disable_vga=1 # for me' >"$root/tmp/a.conf"
expect "modprobe.d" "options vfio_pci disable_vga=1 # for me" \
    "$(inside modprobe --config /tmp/a.conf --showconfig | grep vfio)"

echo 'vfio-no-such # for me' >"$root/tmp/a.conf"
expect "modules-load.d" "Failed to find module 'vfio-no-such # for me'" \
    "$(inside /usr/lib/systemd/systemd-modules-load /tmp/a.conf 2>&1 || true)"

printf '[Service]\nExecStart=/bin/true\nAllowedCPUs=0-3 # for me\n' >"$root/tmp/a.service"
expect "a unit" "/tmp/a.service:3: Failed to parse CPU affinity '#'" \
    "$(inside systemd-analyze verify --man=no --recursive-errors=no /tmp/a.service 2>&1 || true)"

echo 'SUBSYSTEM=="vfio", MODE="0660" # for me' >"$root/tmp/a.rules"
expect "a udev rule" "/tmp/a.rules:1 Invalid key/value pair, ignoring." \
    "$(inside udevadm verify --no-summary /tmp/a.rules 2>&1 | grep Invalid)"
found
