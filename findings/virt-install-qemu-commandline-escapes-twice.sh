#!/usr/bin/env bash
# virt-install writes a quote or "&" of --qemu-commandline into the XML so that QEMU gets "&quot;" or "&amp;".
#
# Guessed: the words arrive as they were given, split as a shell splits them.
# So is:   they are split so, and bare double quotes vanish. Protected ones are escaped twice: the XML has
#          "&amp;quot;", which is six characters of "&quot;" for QEMU, and QEMU cannot read such JSON.
#          "&" and "<" fare alike. Other options, such as --metadata and --boot, escape once.
# Met by:  who adds a -device in JSON, the form that libvirt itself uses since 2021, or a kernel's
#          command line with "&", by virt-install or virt-xml.
# Seen:    virt-install 5.0.0 (Debian 1:5.0.0-5+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie virtinst=1:5.0.0-5+deb13u1 libvirt-daemon libxml2-utils base-files bash coreutils \
    ca-certificates
prepare_virt_install

# second WORDS: what QEMU gets as the second of these words.
second() {
    virt_install --qemu-commandline="$1" >"$root/tmp/vm.xml"
    inside xmllint --xpath 'string(//*[local-name()="arg"][2]/@value)' /tmp/vm.xml
}
expect "without quotes" 'e1000,id=y' "$(second '-device e1000,id=y')"
expect "bare quotes" '{driver:e1000}' "$(second '-device {"driver":"e1000"}')"
expect "protected quotes" '{&quot;driver&quot;:&quot;e1000&quot;}' \
    "$(second "-device '{\"driver\":\"e1000\"}'")"
expect "&" 'a&amp;b' "$(second '-append a&b')"
virt_install --metadata title='A & B' >"$root/tmp/vm.xml"
expect "& in --metadata" 'A & B' "$(inside xmllint --xpath 'string(//title)' /tmp/vm.xml)"
found
