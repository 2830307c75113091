#!/usr/bin/env bash
# Of several softdeps of a module modprobe takes the first one; a module's own comes before all others.
#
# Guessed: they add up, as lines of "options" do, and a file in /etc wins over one in /usr/lib.
# So is:   files count in the order of their names, whatever folder they are in, and one line for each
#          module. The other lines do nothing, and no message says so. What a module says of itself,
#          as r8169 does, is read before all files: no line can put vfio-pci before it.
# Met by:  who has vfio-pci loaded before nvidia on a system whose package has "softdep nvidia post:
#          nvidia-uvm" in a file such as nvidia-uvm.conf, which comes before vfio.conf in the alphabet.
# Seen:    kmod 34.2 (Debian 34.2-2), with empty modules of these names.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie kmod=34.2-2 binutils base-files bash coreutils

# module NAME NEEDS [SOFTDEP]
modules=/usr/lib/modules/$(uname -r)
mkdir -p "$root$modules/kernel" "$root"/etc/modprobe.d "$root"/usr/lib/modprobe.d
module() {
    {
        printf '.section .modinfo,"a"\n.asciz "name=%s"\n' "$1"
        [[ -z ${3-} ]] || printf '.asciz "softdep=%s"\n' "$3"
        # depmod finds out by symbols what a module needs.
        printf '.section __ksymtab_strings,"a"\n.asciz "symbol_of_%s"\n' "${1//-/_}"
        [[ -z $2 ]] || printf '.data\n.quad symbol_of_%s\n' "$2"
    } >"$root/tmp/module.s"
    inside as -o "$modules/kernel/$1.ko" /tmp/module.s
}
module vfio-pci ""
module drm ""
module nvidia drm
module nvidia-uvm nvidia
module realtek ""
module r8169 "" "pre: realtek"
inside depmod 2>/dev/null

# loaded CONF MODULE: what is loaded with this as vfio.conf, in order. A dry run repeats itself.
loaded() {
    printf '%s\n' "$1" >"$root/etc/modprobe.d/vfio.conf"
    inside modprobe -n -v "$2" | sed 's|.*/||; s|\.ko.*||' | awk '!seen[$0]++' | paste -sd' '
}
vfio="softdep nvidia pre: vfio-pci"
uvm="softdep nvidia post: nvidia-uvm"
expect "by itself" "drm vfio-pci nvidia" "$(loaded "$vfio" nvidia)"
expect "with a second line" "drm vfio-pci nvidia" "$(loaded "$vfio"$'\n'"$uvm" nvidia)"
expect "with both in one line" "drm vfio-pci nvidia nvidia-uvm" "$(loaded "$vfio post: nvidia-uvm" nvidia)"
echo "$uvm" >"$root/usr/lib/modprobe.d/nvidia-uvm.conf"
expect "with the line of a package" "drm nvidia nvidia-uvm" "$(loaded "$vfio" nvidia)"
rm "$root/usr/lib/modprobe.d/nvidia-uvm.conf"

expect "options add up" "x=1 y=2" "$(printf 'options nvidia x=1\noptions nvidia y=2\n' \
    >"$root/etc/modprobe.d/vfio.conf" && inside modprobe -n -v nvidia | grep -o 'x=.*[0-9]')"
expect "for r8169, which has its own" "realtek r8169" "$(loaded "softdep r8169 pre: vfio-pci" r8169)"
found
