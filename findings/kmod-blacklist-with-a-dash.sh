#!/usr/bin/env bash
# "modprobe.blacklist=snd-hda-intel" on the kernel's command line keeps no module away.
#
# Guessed: dashes and underscores are the same in a module's name, as everywhere in modprobe: in its
#          arguments, in modprobe.d, and for options on that very command line.
# So is:   here alone the word stays as it is written, and no module's name has a dash. With underscores it
#          works. "blacklist snd-hda-intel" in a file of modprobe.d works as well. `modprobe
#          --showconfig` lists both spellings as if both counted.
# Met by:  who keeps xhci-pci, snd-hda-intel or i2c-nvidia-gpu off a card from boot on. `vfio-hooks check`
#          says so, by blacklist-without-effect.
# Seen:    kmod 34.2 (Debian 34.2-2), with empty modules of these names. kmod 30 does the same.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie kmod=34.2-2 binutils base-files bash coreutils mount
empty_module snd-hda-intel "pci:v00001022d*sv*sd*bc04sc03i*"

# What udev has loaded for a card's sound function, with this command line of the kernel.
loaded() {
    echo "quiet $1" >"$root/tmp/cmdline"
    # Only what it would do: no module is loaded.
    inside bash -c 'mount --bind /tmp/cmdline /proc/cmdline
        modprobe --use-blacklist --dry-run --verbose pci:v00001022d00001637sv00001043sd000086C7bc04sc03i00' 2>&1 | sed 's|/.*/||; s| *$||'
}
expect "nothing" "insmod snd-hda-intel.ko" "$(loaded "")"
expect "with underscores" "" "$(loaded modprobe.blacklist=snd_hda_intel)"
expect "with dashes" "insmod snd-hda-intel.ko" "$(loaded modprobe.blacklist=snd-hda-intel)"
expect "options with dashes" "insmod snd-hda-intel.ko power_save=0" \
    "$(loaded snd-hda-intel.power_save=0)"
echo "blacklist snd-hda-intel" >"$root/etc/modprobe.d/no-sound.conf"
expect "with dashes, in a file" "" "$(loaded "")"
found
