#!/usr/bin/env bash
# hwloc reads "8" as CPU 3 and "8-8" as CPU 8.
#
# Guessed: a number is a CPU, as in every list; a mask needs "0x".
# So is:   without a dash the word is a hex mask, "0x" or not: 8 is CPU 3, 10 is CPU 4 and "10,12" is
#          CPUs 1, 4 and 36, two groups of 32 bits. One dash anywhere makes the whole a list. With
#          --cpuset-input-format list it is always one, and then 010 is octal.
# Met by:  who binds a helper by `hwloc-bind 8 -- looking-glass-client`: another CPU than by
#          `taskset -c 8`.
# Seen:    hwloc 2.12.0 (Debian 2.12.0-4), on a topology of 64 CPUs that it makes up.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie hwloc-nox=2.12.0-4 base-files bash coreutils

cpus() {
    inside hwloc-calc --input pu:64 --cpuset-output-format list "$@" 2>/dev/null
}
expect "8" 3 "$(cpus 8)"
expect "8-8" 8 "$(cpus 8-8)"
expect "10" 4 "$(cpus 10)"
expect "10,12" 1,4,36 "$(cpus 10,12)"
expect "10,12-13" 10,12-13 "$(cpus 10,12-13)"
expect "10,12 as a list" 10,12 "$(cpus --cpuset-input-format list 10,12)"
expect "010 as a list" 8 "$(cpus --cpuset-input-format list 010)"
found
