#!/usr/bin/env bash
# One part of a CPU list that tuned cannot read makes the whole list empty, without an error.
#
# Guessed: an error, or the other parts count.
# So is:   "2-7,10-14:2", a stride as isolcpus= and taskset take it, is the empty list, and so is one with the
#          word "all". A reversed range is left out. "0x3" inside a list is a mask, CPUs 0 and 1.
# Met by:  who writes isolated_cores= of a realtime profile with a stride: nothing is isolated.
# Seen:    tuned 2.25.1 (Debian 2.25.1-1), its reader of such lists.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

debian trixie tuned=2.25.1-1 python3 base-files bash coreutils

cpus() {
    inside python3 -c "
from tuned.utils.commands import commands
print(commands(False).cpulist_unpack('$1'))"
}
expect "2-4" "[2, 3, 4]" "$(cpus 2-4)"
expect "2-4,10-14:2" "[]" "$(cpus 2-4,10-14:2)"
expect "2-4,all" "[]" "$(cpus 2-4,all)"
expect "2-4,9-7" "[2, 3, 4]" "$(cpus 2-4,9-7)"
expect "4,0x3" "[0, 1, 4]" "$(cpus 4,0x3)"
found
