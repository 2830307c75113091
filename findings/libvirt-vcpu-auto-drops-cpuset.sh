#!/usr/bin/env bash
# libvirt drops the cpuset of a <vcpu placement='auto'>, and gives the VM a memory policy.
#
# Guessed: the CPUs stay, as the outer limit of what numad may choose.
# So is:   cpuset is gone from the stored XML without a message, and a <numatune> with mode strict is
#          there that nobody wrote.
# Met by:  who adds placement='auto' to a VM with CPUs of its own, as advice on NUMA suggests.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver; no numad on the machine.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

kept() {
    defined "<vcpu $1 cpuset='0-1'>2</vcpu>" "" "" | grep -oE "<vcpu .*|<memory mode.*" | paste -sd' '
}
expect "static" "<vcpu placement='static' cpuset='0-1'>2</vcpu>" "$(kept "placement='static'")"
expect "auto" "<vcpu placement='auto'>2</vcpu> <memory mode='strict' placement='auto'/>" \
    "$(kept "placement='auto'")"
found
