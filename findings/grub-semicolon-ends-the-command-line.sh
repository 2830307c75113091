#!/usr/bin/env bash
# A kernel parameter with a ";" is cut off there by GRUB, and update-grub does not quote it.
#
# Guessed: update-grub quotes what is in GRUB_CMDLINE_LINUX, or GRUB reads a "linux" line as it is.
# So is:   10_linux writes the words bare into grub.cfg, which is a program: the ";" ends the command. The
#          kernel gets the parameter's first half, and none of the parameters after it. GRUB then looks
#          for a command that is called as the second half. A "$" takes the digits after it along. Within
#          double quotes, or after a backslash, both arrive.
# Met by:  who gives pci=disable_acs_redir=, config_acs= or resource_alignment= two devices: the kernel's
#          own documents separate these by ";".
# Seen:    GRUB 2.12 (Debian 2.12-9+deb13u4), run by QEMU 10.0.13.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

grub=2.12-9+deb13u4
debian trixie "grub-pc-bin=$grub" "grub-common=$grub" "grub2-common=$grub" \
    qemu-system-x86=1:10.0.13+ds-0+deb13u1 seabios base-files bash coreutils sed gawk grep mawk tar
ln -sf mawk "$root/usr/bin/awk"
parameter="pci=disable_acs_redir=0000:00:1c.0;0000:00:1c.4"

# What update-grub puts into grub.cfg.
mkdir -p "$root/boot"
touch "$root/boot/vmlinuz-6.12.1"
expect "10_linux" "ro $parameter quiet" "$(inside env GRUB_DEVICE=/dev/vda1 GRUB_FS=ext2 \
    GRUB_DISABLE_LINUX_UUID=true GRUB_CMDLINE_LINUX="$parameter" GRUB_CMDLINE_LINUX_DEFAULT=quiet \
    pkgdatadir=/usr/share/grub bash /etc/grub.d/10_linux 2>/dev/null |
    grep -m1 '/vmlinuz-' | grep -oE 'ro  ?pci.*quiet' | tr -s ' ')"

# GRUB itself, from the first sector of a disk; its words come out of a serial port.
mkdir -p "$root/tmp/boot/grub"
cat >"$root/tmp/boot/grub/grub.cfg" <<CFG
serial --unit=0
terminal_output serial
function words { echo "[\$# \$*]"; }
words root=/dev/vda1 $parameter quiet
words root=/dev/vda1 "$parameter" quiet
words root=/dev/vda1 ${parameter/;/\\;} quiet
words memmap=8G\$32G
echo end
halt
CFG
inside bash -c 'cd /tmp && tar cf files.tar boot &&
    grub-mkimage -O i386-pc -m files.tar -p "(memdisk)/boot/grub" -o core.img \
        biosdisk memdisk tar normal serial terminal echo halt &&
    cat /usr/lib/grub/i386-pc/boot.img core.img >disk.img && truncate -s 4M disk.img'
inside qemu-system-x86_64 -nodefaults -display none -serial stdio -no-reboot \
    -drive file=/tmp/disk.img,format=raw </dev/null |
    tr -d '\r' | sed 's/\x1b\[[0-9;]*[A-Za-z]//g' >"$temp/seen" || true
said() { sed -n "$1p" <(grep -oE '\[[0-9].*\]|error: .*' "$temp/seen"); }
expect "bare" "[2 root=/dev/vda1 pci=disable_acs_redir=0000:00:1c.0]" "$(said 1)"
expect "its rest" "error: can't find command \`0000:00:1c.4'." "$(said 2)"
expect "in double quotes" "[3 root=/dev/vda1 $parameter quiet]" "$(said 3)"
expect "after a backslash" "[3 root=/dev/vda1 $parameter quiet]" "$(said 4)"
expect "a dollar" "[1 memmap=8GG]" "$(said 5)"
found
