#!/usr/bin/env bash
# vCPUs that no guest NUMA cell names are put into cell 0 by libvirt.
#
# Guessed: an error, as for vCPUs that are in two cells, or beyond the count.
# So is:   with four vCPUs and cells of vCPU 0 and of vCPU 1, cell 0 of the stored XML has "0,2-3". The
#          cells' memory wins over <memory>, too, which is rewritten to their sum.
# Met by:  who raises <vcpu> for a VM with a guest NUMA layout: the new vCPUs are all in one cell, whatever
#          they are pinned to.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

cells() {
    echo "<cpu><numa><cell id='0' cpus='0' memory='524288'/><cell id='1' cpus='$1' memory='1048576'/>" \
        "</numa></cpu>"
}
kept() {
    defined "<vcpu>4</vcpu>" "$(cells "$1")" "" |
        grep -oE "<memory unit.*|cpus='[^']*'|error: unsupp.*" | paste -sd' '
}
expect "vCPUs 2 and 3 in no cell" "<memory unit='KiB'>1572864</memory> cpus='0,2-3' cpus='1'" "$(kept 1)"
expect "vCPU 0 in both" \
    "error: unsupported configuration: NUMA cells 1 and 0 have overlapping vCPU ids" "$(kept 0-3)"
found
