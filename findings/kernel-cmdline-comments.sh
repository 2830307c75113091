#!/usr/bin/env bash
# A line with "#" in /etc/kernel/cmdline is a comment, or more of the kernel's command line.
#
# Guessed: kernel-install joins all lines of the file and hands on the "#" as well, whatever the version.
# So is:   that is so for version 252. Version 257 leaves out the lines that begin with "#", also behind
#          blanks, but not what stands behind a "#" in a line with parameters. ukify of the same version
#          puts the whole file into a unified kernel image as it is, with comments and line ends.
# Met by:  who switches vfio-pci.ids= or isolcpus= off in that file by "#": with such an image, or on Debian 12,
#          it stays on.
# Seen:    systemd 257.13 (Debian 257.13-1~deb13u1) and 252.39 (Debian 252.39-1~deb12u2).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

# written: the options of the entry that kernel-install makes in $root.
written() {
    mkdir -p "$root"/{etc/kernel,boot/loader/entries,boot/deb,lib/modules/6.1}
    echo 0123456789abcdef0123456789abcdef >"$root/etc/machine-id"
    echo deb >"$root/etc/kernel/entry-token"
    printf '%s\n' layout=bls BOOT_ROOT=/boot initrd_generator=none >"$root/etc/kernel/install.conf"
    printf '%s\n' 'root=/dev/vda1 ro' '  # for the VM' '# vfio-pci.ids=10de:1b80' 'quiet # mine' \
        >"$root/etc/kernel/cmdline"
    echo kernel >"$root/tmp/vmlinuz"
    inside kernel-install add 6.1 /tmp/vmlinuz >/dev/null 2>&1
    sed -n 's/^options *//p' "$root"/boot/loader/entries/*6.1.conf
}

new=257.13-1~deb13u1
debian trixie systemd=$new systemd-ukify=$new systemd-boot-efi=$new base-files bash coreutils grep sed mawk
expect "kernel-install 257" "root=/dev/vda1 ro quiet # mine" "$(written)"
inside ukify build --linux=/tmp/vmlinuz --cmdline=@/etc/kernel/cmdline --uname=6.1 \
    --output=/tmp/uki.efi >/dev/null 2>&1
expect "ukify 257" "$(cat "$root/etc/kernel/cmdline")" \
    "$(inside ukify inspect /tmp/uki.efi --section=.cmdline:text 2>&1 | sed -n '/text:/,$ s/^    //p')"

root=$temp/old
debian bookworm systemd=252.39-1~deb12u2 base-files bash coreutils grep sed mawk
ln -sf bash "$root/bin/sh"
expect "kernel-install 252" "root=/dev/vda1 ro # for the VM # vfio-pci.ids=10de:1b80 quiet # mine" \
    "$(written)"
found
