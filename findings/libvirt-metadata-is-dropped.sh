#!/usr/bin/env bash
# libvirt drops metadata without a namespace, and the second element of the same one.
#
# Guessed: <metadata> is kept as it is, being there for other programs, or refused.
# So is:   <note> without a namespace is gone after `virsh define`. Of two elements of one namespace only
#          the first stays. Another namespace under the same prefix is kept. No message.
# Met by:  whose tool notes in a VM's XML what it has set up, one element for each thing.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

kept() {
    defined "<vcpu>2</vcpu>" "<metadata>$1</metadata>" "" | grep -oE '<(note|[a-z]:[a-z]+) ?.*' |
        paste -sd' '
}
expect "no namespace" "" "$(kept '<note>card</note>')"
expect "two of one namespace" '<a:card xmlns:a="http://example.org/a"/>' \
    "$(kept '<a:card xmlns:a="http://example.org/a"/><a:disk xmlns:a="http://example.org/a"/>')"
expect "two namespaces" \
    '<a:card xmlns:a="http://example.org/a"/> <a:disk xmlns:a="http://example.org/b"/>' \
    "$(kept '<a:card xmlns:a="http://example.org/a"/><a:disk xmlns:a="http://example.org/b"/>')"
found
