#!/usr/bin/env bash
# libvirt drops a pin of a vCPU that the VM does not have, and says nothing.
#
# Guessed: an error, as for <vcpusched> and <iothreadpin>, which sit beside it in <cputune>.
# So is:   <vcpupin vcpu='2'/> for a VM of two vCPUs is accepted by `virsh define` and is gone from
#          the stored XML. The same mistake in <vcpusched> is refused. The schema takes both.
# Met by:  who lowers <vcpu> and leaves the old pins, or counts the vCPUs from 1: a vCPU is then
#          without a pin and floats over all CPUs.
# Seen:    libvirt 11.3.0 (Debian 11.3.0-3+deb13u3), its QEMU driver.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

libvirt_11

pins="<cputune><vcpupin vcpu='1' cpuset='1'/><vcpupin vcpu='2' cpuset='0'/></cputune>"
expect "pins of vCPUs 1 and 2, where there are 0 and 1" "<vcpupin vcpu='1' cpuset='1'/>" \
    "$(defined "<vcpu>2</vcpu>" "$pins" "" | grep -o '<vcpupin.*')"
expect "the schema on it" valid "$(by_schema "<vcpu>2</vcpu>" "$pins" "")"

sched="<cputune><vcpusched vcpus='1-2' scheduler='fifo' priority='1'/></cputune>"
expect "a scheduler for the same" \
    "error: unsupported configuration: vCPU '2' is not present in domain definition" \
    "$(defined "<vcpu>2</vcpu>" "$sched" "" | grep unsupported)"
found
