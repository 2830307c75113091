#!/usr/bin/env bash
# modprobe takes "softdep amdgpu pre:vfio-pci" and makes nothing of it.
#
# Guessed: "pre:" with or without a space behind it, or an error.
# So is:   without the space the word is neither "pre:" nor a module after it: the line gives a soft
#          dependency on nothing, without a message, so the graphics driver still loads first. A
#          line that begins with a blank before "#" is an error, though: only the first column counts.
# Met by:  who has vfio-pci loaded before the card's driver, the guides' way for early binding.
# Seen:    kmod 34.2 (Debian 34.2-2).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie kmod=34.2-2 base-files bash coreutils

parsed() {
    printf '%s\n' "$1" >"$root/tmp/a.conf"
    inside modprobe --config /tmp/a.conf --showconfig 2>&1 | grep -E 'softdep|ignoring' || true
}
expect "with a space" "softdep amdgpu pre: vfio-pci" "$(parsed 'softdep amdgpu pre: vfio-pci')"
expect "without" "softdep amdgpu " "$(parsed 'softdep amdgpu pre:vfio-pci')"
expect "an indented comment" "libkmod: ERROR: kmod_config_parse: /tmp/a.conf line 1: ignoring bad line\
 starting with '#'" "$(parsed '  # for the VM')"
found
