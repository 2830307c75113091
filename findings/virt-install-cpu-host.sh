#!/usr/bin/env bash
# virt-install --cpu host is not QEMU's -cpu host.
#
# Guessed: host-passthrough, which is what -cpu host of QEMU does, and what virt-install's own --cpu
#          host-passthrough names at length.
# So is:   it writes mode="host-model": a named model that is near to the host's CPU, without the host's
#          cache layout and some of its features.
# Met by:  who makes a passthrough VM by command and takes the word over from a QEMU script.
# Seen:    virt-install 5.0.0 (Debian 1:5.0.0-5+deb13u1).
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie virtinst=1:5.0.0-5+deb13u1 libvirt-daemon base-files bash coreutils ca-certificates
mkdir -p "$root/etc/ssl/certs"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"

# A dry run against libvirt's test driver: only the XML is made.
made() {
    inside virt-install --connect test:///default --name vm --memory 1024 --disk none --import \
        --osinfo detect=off,require=off --check all=off --dry-run --print-xml "$@" 2>&1
}

expect "--cpu host" '<cpu mode="host-model"/>' "$(made --cpu host | grep -o '<cpu.*')"
expect "--cpu host-passthrough" '<cpu mode="host-passthrough"/>' \
    "$(made --cpu host-passthrough | grep -o '<cpu.*')"
found
