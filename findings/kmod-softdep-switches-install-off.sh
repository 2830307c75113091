#!/usr/bin/env bash
# "softdep nvidia pre: vfio-pci" keeps Debian's nvidia driver from being loaded at all.
#
# Guessed: vfio-pci is loaded, and then nvidia as before: a softdep adds modules.
# So is:   of a module with a softdep modprobe does not run the install line. Debian's package names the
#          module nvidia-current and has "install nvidia modprobe -i nvidia-current" for it, so
#          modprobe loads vfio-pci and finds no module nvidia, also when udev asks for the card's
#          driver. A softdep of nvidia-current does nothing either, because modprobe -i skips softdeps
#          as well, of which its manual says nothing.
# Met by:  who has two cards of nvidia's on Debian and gives one of them to vfio-pci as the guides say: the
#          host's own card has no driver any more. vfio-hooks advised it, too, until this was found;
#          now `check` and `boot` have the initramfs load vfio-pci instead.
# Seen:    kmod 34.2 (Debian 34.2-2), nvidia-kernel-support 550.163.01 (Debian 550.163.01-2), with empty
#          modules of these names. kmod 30 does the same.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

components="main contrib non-free"
debian trixie kmod=34.2-2 nvidia-kernel-support=550.163.01-2 binutils base-files bash coreutils

cp "$root/etc/nvidia/current/nvidia-modprobe.conf" "$root/etc/modprobe.d/nvidia.conf"
empty_module vfio-pci
empty_module nvidia-current "pci:v000010DEd*sv*sd*bc03sc00i00*"

# Only what it would do: no module is loaded.
loaded() {
    inside modprobe --dry-run --verbose "$@" 2>&1 | sed 's|/.*/||; s| *$||' | paste -sd' '
}
card=pci:v000010DEd00002504sv00001458sd00004096bc03sc00i00
# shellcheck disable=SC2016 # the line has it so
line='install modprobe -i nvidia-current $CMDLINE_OPTS'
softdep() {
    echo "softdep $1 pre: vfio-pci" >"$root/etc/modprobe.d/vfio.conf"
}
expect "nvidia" "$line" "$(loaded nvidia)"
expect "what that runs" "insmod nvidia-current.ko" "$(loaded -i nvidia-current)"
softdep nvidia
expect "nvidia, with a softdep of it" "insmod vfio-pci.ko" "$(loaded nvidia)"
expect "the card's driver, as udev asks for it" "insmod vfio-pci.ko" "$(loaded -b "$card")"
softdep nvidia-current
expect "nvidia, with a softdep of nvidia-current" "$line" "$(loaded nvidia)"
expect "what that runs" "insmod nvidia-current.ko" "$(loaded -i nvidia-current)"
expect "nvidia-current without -i" "insmod vfio-pci.ko insmod nvidia-current.ko" "$(loaded nvidia-current)"
found
