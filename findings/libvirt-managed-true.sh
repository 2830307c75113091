#!/usr/bin/env bash
# libvirt takes managed='true' for a passed-through device, and means managed='no'.
#
# Guessed: an error, as every other yes/no attribute gives one for "true".
# So is:   any word but "yes" is "no", without a message: the host's driver keeps the device, and the
#          VM's start fails later on, about something else. The neighbouring rom enabled='true'
#          is refused. The schema says that the XML is invalid, but define does not ask it.
# Met by:  who writes a <hostdev> by hand.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

hostdev() {
    echo "<hostdev mode='subsystem' type='pci' managed='$1'><source>
        <address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>$2</hostdev>"
}
kept() {
    defined "<vcpu>2</vcpu>" "" "$(hostdev "$@")" | grep -oE "managed='[^']*'|error: XML.*"
}
for word in true Yes on 1; do
    expect "managed='$word'" "managed='no'" "$(kept "$word" "")"
done
expect "managed='yes'" "managed='yes'" "$(kept yes "")"
expect "rom enabled='true'" "error: XML error: Invalid value for attribute 'enabled' in element 'rom':\
 'true'." "$(kept yes "<rom enabled='true'/>")"
expect "the schema on managed='true'" invalid "$(by_schema "<vcpu>2</vcpu>" "" "$(hostdev true "")")"
found
