#!/usr/bin/env bash
# `vfio-isolate restore` does not bring back what was there before.
#
# Guessed: the undo file has the old lists of interrupts and control groups, and it is there as soon as
#          something is changed.
# So is:   it has operations, not values. An interrupt that only used masked CPUs comes back on all of
#          them: 4 becomes 4-7, while 3-4 and 0-7 are right. A control group without a list gets all
#          CPUs and all memory nodes as one. The file is written at the very end: if a later command
#          of the line fails, the earlier ones stay done and there is none. A reversed range, "C7-4",
#          is no error and no CPU.
# Met by:  whose hook runs it at the VM's start and end, as its manual shows: each run leaves the host a
#          little different. `vfio-hooks migrate` takes such lines as [cpus], [irqs] and [governor], whose
#          journal has each old value before the first change.
# Seen:    vfio-isolate 0.5.2 (PyPI), on files that look like those of a host with eight CPUs.
# shellcheck source=findings/debian.bash
set -euo pipefail
. "$(dirname "$0")/debian.bash"

timeout 300 python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore \
    --target "$temp/python" vfio-isolate==0.5.2 click==8.1.8 psutil==7.0.0 2>"$temp/pip" || {
    cat "$temp/pip"
    exit 2
}
host=$temp/host
mkdir -p "$host"/irq/{24,25,26} "$host"/cgroup/{system,user}.slice
echo 0-7 >"$host/irq/24/smp_affinity_list"
echo 4 >"$host/irq/25/smp_affinity_list"
echo 3-4 >"$host/irq/26/smp_affinity_list"
for group in "$host"/cgroup/*; do
    echo cpuset >"$group/cgroup.controllers"
    echo 0-7 >"$group/cpuset.cpus.effective"
    echo 0 >"$group/cpuset.mems.effective"
    touch "$group"/cpuset.{cpus,mems}
done

# The program itself; it is only told where these files are.
isolate() {
    HOST=$host PYTHONPATH=$temp/python python3 - "$@" <<'PYTHON' 2>&1 | tail -n 1 | cut -d: -f1
import os, types
import psutil

host = os.environ["HOST"]
cgroup2 = types.SimpleNamespace(fstype="cgroup2", mountpoint=f"{host}/cgroup")
psutil.disk_partitions = lambda all: [cgroup2]

from vfio_isolate import cli, irq, nodeset

irq.IRQ.base_path = f"{host}/irq"
nodeset.CPUNodeSet.possible_cpus = staticmethod(lambda: nodeset.CPUNodeSet("0-7"))
nodeset.CPUNodeSet.is_valid = lambda cpus: True
cli.run_cli()
PYTHON
}
irqs() {
    echo "$(<"$host/irq/24/smp_affinity_list")" "$(<"$host/irq/25/smp_affinity_list")" \
        "$(<"$host/irq/26/smp_affinity_list")"
}
groups() {
    for group in system user; do
        echo "'$(<"$host/cgroup/$group.slice/cpuset.cpus")'"
    done | paste -sd' '
}
expect "interrupts" "0-7 4 3-4" "$(irqs)"
isolate -u "$temp/undo" irq-affinity mask C7-4
expect "C7-4 masked" "0-7 4 3-4" "$(irqs)"
isolate -u "$temp/undo" irq-affinity mask C4-7
expect "C4-7 masked" "0-3 0-3 3" "$(irqs)"
isolate restore "$temp/undo"
expect "restored" "0-7 4-7 3-4" "$(irqs)"

expect "lists of groups" "'' ''" "$(groups)"
isolate -u "$temp/undo" cpuset-modify --cpus C0-3 /system.slice cpuset-modify --cpus C0-3 /user.slice
expect "changed" "'0-3' '0-3'" "$(groups)"
isolate restore "$temp/undo"
expect "restored" "'0-7' '0-7'" "$(groups)"
expect "with a second group that is not there" "FileNotFoundError" "$(isolate -u "$temp/undo-of-a-failure" \
    cpuset-modify --cpus C0-3 /system.slice cpuset-modify --cpus C0-3 /no.slice)"
expect "afterwards" "'0-3' '0-7'" "$(groups)"
expect "its undo file" "none" "$([[ -e $temp/undo-of-a-failure ]] || echo none)"
found
