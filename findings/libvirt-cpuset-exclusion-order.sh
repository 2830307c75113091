#!/usr/bin/env bash
# In libvirt's CPU lists "^" takes away only what stands before it, and only one CPU.
#
# Guessed: "0-7,^3" and "^3,0-7" mean the same, and "0-7,^2-3" leaves out two CPUs.
# So is:   a list is worked off from left to right: "^3,0-7" keeps CPU 3, "0-7,^3,3" has it again.
#          A range after "^" is refused. tuned's parser, which knows "^" too, leaves 3 out in both
#          orders.
# Met by:  who writes the host's CPUs as an exclusion, in <vcpu cpuset>, <vcpupin> or nodeset.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), tuned 2.25.1.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11
debian trixie tuned=2.25.1-1 python3

kept() {
    defined "<vcpu cpuset='$1'>2</vcpu>" "" "" | grep -oE "cpuset='[^']*'|Failed to parse.*"
}
expect "0-7,^3" "cpuset='0-2,4-7'" "$(kept 0-7,^3)"
expect "^3,0-7" "cpuset='0-7'" "$(kept ^3,0-7)"
expect "0-7,^3,3" "cpuset='0-7'" "$(kept 0-7,^3,3)"
expect "0-7,^2-3" "Failed to parse bitmap '0-7,^2-3'" "$(kept 0-7,^2-3)"

expect "tuned on ^3,0-7" "[0, 1, 2, 4, 5, 6, 7]" "$(inside python3 -c '
from tuned.utils.commands import commands
print(commands(False).cpulist_unpack("^3,0-7"))')"
found
