#!/usr/bin/env bash
# libvirt accepts huge pages of 1 "GB", and stores a size that no machine has.
#
# Guessed: an error, or the unit is taken for GiB, since a page size is a power of two.
# So is:   GB is 10^9 bytes and the page size 976563 KiB, rounded up. `virsh define` and the schema
#          accept it; only the VM's start can fail.
#          The size of a <shmem> in MB, where a power of two is needed as well, is refused at once.
# Met by:  who writes <page size='1' unit='GB'/> for the kernel's hugepagesz=1G.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

pages() {
    echo "<memoryBacking><hugepages><page size='1' unit='$1'/></hugepages></memoryBacking>"
}
kept() {
    defined "<vcpu>2</vcpu>" "$(pages "$1")" "" | grep -o '<page .*'
}
expect "G" "<page size='1048576' unit='KiB'/>" "$(kept G)"
expect "GB" "<page size='976563' unit='KiB'/>" "$(kept GB)"
expect "the schema on GB" valid "$(by_schema "<vcpu>2</vcpu>" "$(pages GB)" "")"

shared="<shmem name='looking-glass'><model type='ivshmem-plain'/><size unit='MB'>32</size></shmem>"
expect "shared memory of 32 MB" \
    "error: XML error: shmem size must be a power of 2 and at least 1 MiB (1024 KiB)" \
    "$(defined "<vcpu>2</vcpu>" "" "$shared" | grep 'XML error')"
found
