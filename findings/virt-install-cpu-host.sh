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
prepare_virt_install

expect "--cpu host" '<cpu mode="host-model"/>' "$(virt_install --cpu host | grep -o '<cpu.*')"
expect "--cpu host-passthrough" '<cpu mode="host-passthrough"/>' \
    "$(virt_install --cpu host-passthrough | grep -o '<cpu.*')"
found
