#!/usr/bin/env bash
# systemd-boot starts the entry whose name is the last in the alphabet.
#
# Guessed: of the entries in loader/entries the first name is the default, or the entry that was there
#          first; a copy with other parameters, to fall back on, is only started when it is chosen.
# So is:   without a "default" in loader.conf and without sort keys, names are in descending order, for
#          the newest kernel to come first: a copy of arch.conf called backup.conf is started. One that
#          has a sort-key comes before all that have none, whatever its name; of two with one, the first
#          key in the alphabet wins.
# Met by:  who keeps a second entry by hand, as on Arch, before trying other kernel parameters.
# Seen:    systemd 257.13 (Debian 257.13-1~deb13u1); bootctl has the order of systemd-boot itself.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

version=257.13-1~deb13u1
debian trixie "systemd-boot-tools=$version" base-files bash coreutils mount

# started ENTRY...: the default of these; NAME:KEY has a sort key.
started() {
    rm -rf "$root/esp"
    mkdir -p "$root/esp/loader/entries" "$root/mnt"
    touch "$root/esp/linux"
    local entry
    for entry in "$@"; do
        {
            printf 'title %s\nlinux /linux\n' "${entry%:*}"
            [[ $entry != *:* ]] || printf 'sort-key %s\n' "${entry#*:}"
        } >"$root/esp/loader/entries/${entry%:*}.conf"
    done
    # It wants a file system of its own.
    inside bash -c 'mount -t tmpfs none /mnt && cp -r /esp/. /mnt && mkdir -p /mnt/EFI &&
        SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --esp-path=/mnt --no-pager list' |
        sed -n 's/^ *title: \([^ ]*\) .*(default).*/\1/p'
}
expect "two names" "backup" "$(started arch backup)"
expect "a digit is more than a letter" "5-old" "$(started arch 5-old)"
expect "a dash is less than the end" "arch" "$(started arch arch-backup)"
expect "one with a sort key" "arch" "$(started arch:key backup)"
expect "the first of two sort keys" "arch" "$(started arch:a backup:b)"
found
