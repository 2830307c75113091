#!/usr/bin/env bash
# virt-install's --shmem size=32 is 32 bytes, and its own dry run finds nothing wrong.
#
# Guessed: MiB, as in virt-install --memory 32, or the default of 4 MiB that libvirt has.
# So is:   it writes <size>32</size> without a unit, which libvirt reads as bytes and refuses: a power of two
#          from 1 MiB up is needed. size.unit=M beside it is what is meant.
# Met by:  who adds Looking Glass's shared memory by command.
# Seen:    virt-install 5.0.0 (Debian 1:5.0.0-5+deb13u1), libvirt 11.3.0.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
debian trixie virtinst=1:5.0.0-5+deb13u1 ca-certificates
prepare_virt_install

expect "size=32" "<size>32</size>" "$(virt_install --shmem looking-glass,size=32 | grep -o '<size.*')"
expect "size=32,size.unit=M" '<size unit="M">32</size>' \
    "$(virt_install --shmem looking-glass,size=32,size.unit=M | grep -o '<size.*')"
expect "libvirt on the first" \
    "error: XML error: shmem size must be a power of 2 and at least 1 MiB (1024 KiB)" \
    "$(defined "<vcpu>2</vcpu>" "" "<shmem name='looking-glass'><model type='ivshmem-plain'/>
        <size>32</size></shmem>" | grep 'XML error')"
found
