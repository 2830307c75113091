#!/usr/bin/env bash
# numactl takes the range 1-0 and runs the program on CPU 1 alone.
#
# Guessed: an error, as taskset, libvirt and the kernel give one.
# So is:   the first number counts and the last is ignored, without a word. An empty CPU list is passed
#          on to the kernel, which refuses it, and a stride ("0-1:1") is unknown.
# Met by:  who has a QEMU wrapper or helper started with a range that a script computes.
# Seen:    numactl 2.0.19 (Debian 2.0.19-1), taskset of util-linux 2.41.5; needs two CPUs.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie numactl=2.0.19-1 util-linux grep base-files bash coreutils

allowed() {
    inside "$@" grep Cpus_allowed_list /proc/self/status 2>&1 | tr -d '\t' |
        grep -oE 'Cpus_allowed.*|failed to parse.*|<.*> is invalid|Invalid argument' || true
}
expect "numactl, 0-1" "Cpus_allowed_list:0-1" "$(allowed numactl -C 0-1)"
expect "numactl, 1-0" "Cpus_allowed_list:1" "$(allowed numactl -C 1-0)"
expect "numactl, 0-1:1" "<0-1:1> is invalid" "$(allowed numactl -C 0-1:1)"
expect "taskset, 1-0" "failed to parse CPU list: 1-0" "$(allowed taskset -c 1-0)"
expect "taskset, 0-1:1" "Cpus_allowed_list:0-1" "$(allowed taskset -c 0-1:1)"
found
