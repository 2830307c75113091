#!/usr/bin/env bash
# A USB id from lsusb, such as 0403:6001, put into libvirt's XML as it stands, becomes another device's.
#
# Guessed: the four digits are read as hex, with or without "0x", or refused without it.
# So is:   without "0x" a leading 0 means octal, and any other digit decimal: 0403:6001, a very common
#          serial adapter, is stored as 0x0103:0x1771. `virsh define` says nothing, and the
#          schema finds "0403" valid. It finds the decimal "1027" invalid, which define takes.
#          Only an id with a letter in it is refused by define, and that the schema takes as well.
#          A device's number is read so, too: lsusb's "Device 012" becomes 10.
# Met by:  who passes a USB device through and copies its id from lsusb.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

usb() {
    echo "<hostdev mode='subsystem' type='usb'><source><vendor id='$1'/><product id='$2'/>" \
        "</source></hostdev>"
}
ids() {
    defined "<vcpu>2</vcpu>" "" "$(usb "$@")" | grep -oE "(vendor|product) id='[^']*'|error: XML.*" |
        paste -sd' '
}
expect "0403:6001" "vendor id='0x0103' product id='0x1771'" "$(ids 0403 6001)"
expect "0x0403:0x6001" "vendor id='0x0403' product id='0x6001'" "$(ids 0x0403 0x6001)"
expect "1027:24577" "vendor id='0x0403' product id='0x6001'" "$(ids 1027 24577)"
expect "046d:c52b" "error: XML error: Invalid value for attribute 'id' in element 'vendor': '046d'.\
 Expected non-negative integer value" "$(ids 046d c52b)"

for pair in 0403:6001:valid 046d:c52b:valid 1027:24577:invalid; do
    IFS=: read -r vendor product verdict <<<"$pair"
    expect "the schema on $vendor:$product" "$verdict" \
        "$(by_schema "<vcpu>2</vcpu>" "" "$(usb "$vendor" "$product")")"
done
expect "device='012'" "<address bus='1' device='10'/>" \
    "$(defined "<vcpu>2</vcpu>" "" "<hostdev mode='subsystem' type='usb'><source>
        <address bus='001' device='012'/></source></hostdev>" | grep -o "<address bus='1' .*")"
found
