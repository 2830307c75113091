#!/usr/bin/env bash
# In qemu.conf the first of two lines for one key counts, and a comment inside of a list stops libvirt.
#
# Guessed: the last line counts, as in modprobe.d, sysctl.d and systemd's files. A comment between the
#          entries of a list is taken, and a comma behind the last one is an error.
# So is:   a line that is added at the file's end does nothing if the key is set further up, without a
#          message, as a misspelt key does nothing. A comment in a list, a text without quotes and a
#          number in quotes keep the QEMU driver from starting: no VM can be used then. A comma at a
#          list's end, a semicolon behind a value and single quotes are taken.
# Met by:  who adds /dev/kvmfr0 or event devices to cgroup_device_acl by a second list, or by an entry
#          with a comment.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver; vnc_listen shows in the command line.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
domain_xml "" "" "<graphics type='vnc'/>" >"$root/tmp/vm.xml"
cp "$root/tmp/libvirt/etc/qemu.conf" "$root/tmp/qemu.conf"

# with LINES: where VNC listens with these lines in qemu.conf, or the error's last words.
with() {
    { cat "$root/tmp/qemu.conf" && printf '%s\n' "$@"; } >"$root/tmp/libvirt/etc/qemu.conf"
    virsh_here 'domxml-to-native qemu-argv /tmp/vm.xml' |
        sed -nE 's/^error: .*(syntax error|expected a).*/\1/p; s/.* -vnc ([0-9.]+):.*/\1/p' | head -1
}
expect "one line" "1.1.1.1" "$(with 'vnc_listen = "1.1.1.1"')"
expect "two lines" "1.1.1.1" "$(with 'vnc_listen = "1.1.1.1"' 'vnc_listen = "2.2.2.2"')"
expect "a misspelt key" "127.0.0.1" "$(with 'vnc_listne = "1.1.1.1"')"
expect "a semicolon" "1.1.1.1" "$(with 'vnc_listen = "1.1.1.1";')"
expect "single quotes" "1.1.1.1" "$(with "vnc_listen = '1.1.1.1'")"
expect "no quotes" "syntax error" "$(with 'vnc_listen = 1.1.1.1')"
expect "a number in quotes" "expected a" "$(with 'dynamic_ownership = "1"')"

list() { with "cgroup_device_acl = [" '  "/dev/null",' "$@" "]"; }
expect "a list" "127.0.0.1" "$(list '  "/dev/kvmfr0"')"
expect "a list with a comma at its end" "127.0.0.1" "$(list '  "/dev/kvmfr0",')"
expect "a list with a comment in it" "syntax error" "$(list '  # for the VM' '  "/dev/kvmfr0"')"
expect "a list with a comment behind an entry" "syntax error" "$(list '  "/dev/kvmfr0" # for the VM')"
found
