"""The fakes against what they stand for: the same steps, and where tasks may run after each."""

from __future__ import annotations

import shlex

import pytest

from tests.fakes import cgroups, hotplug, systemd
from tests.fakes.kernel import Kernel
from tests.vm.guest import Guest

# The task that is looked at, by the group that it is in; init.scope is the oldest group.
TASKS = {"init.scope": 1, "games.slice": 701, "box": 702}
CLEARED = ("games.slice 0-3", "init.scope 0-3", "games.slice", "init.scope")
STUCK = ("games.slice 0-3", "init.scope 0-3", "init.scope 0-7", "init.scope", "games.slice")
FREED = ("games.slice 0-3", "games.slice 0-7", "games.slice")
PLAYS = {
    "init.scope last": CLEARED,
    "init.scope had all": (*STUCK, *FREED),
    "all CPUs first": (
        "games.slice 0-3",
        "init.scope 0-3",
        *FREED[1:],
        "init.scope 0-7",
        "init.scope",
    ),
    "a container": ("games.slice 0-3", "box 0-3,6-7", "box 0-7", "games.slice 0-7", "games.slice"),
    "a CPU that goes": (
        "games.slice 0-3",
        "online 0-6",
        "games.slice 0-7",
        "online 0-7",
        *FREED[2:],
    ),
    "a CPU that comes after": (*FREED[:2], "online 0-6", "games.slice", "online 0-7", *CLEARED),
}
PROGRAMS = """\
set -eu
systemd-run --quiet --unit=rounds --slice=games.slice sleep infinity
mkdir /sys/fs/cgroup/box
sleep infinity < /dev/null > /dev/null 2>&1 &
echo $! > /sys/fs/cgroup/box/cgroup.procs
"""
END = """\
systemctl stop rounds games.slice
rm -f /run/systemd/*/{games.slice,init.scope}.d/50-AllowedCPUs.conf
rmdir /run/systemd/system.control/games.slice.d
kill $(cat /sys/fs/cgroup/box/cgroup.procs)
until rmdir /sys/fs/cgroup/box; do sleep 0.1; done
"""
LOOK = """\
box=$(cat /sys/fs/cgroup/box/cgroup.procs)
for pid in 1 $(systemctl show -P MainPID rounds) $box; do
    awk '/Cpus_allowed_list/ { print $2 }' /proc/$pid/status
done
"""


def real(guest: Guest, kernel: Kernel, step: str) -> list[str]:
    """The step in the guest, once the fake has done it: its file says what there is to wait for."""
    group, _, cpus = step.partition(" ")
    file = f"{systemd.ROOT}/{group}/cpuset.cpus"
    if group == "online":
        guest.run(f"echo {int('7' in cpus)} > /sys/devices/system/cpu/cpu7/online")
    elif group == "box":
        guest.run(f"echo {cpus} > {file}")
    else:
        words = ("systemctl", "set-property", "--runtime", group, f"AllowedCPUs={cpus}")
        guest.run(shlex.join(words))
        shown = kernel.files.get(file, "gone").strip()
        guest.wait(f'[ "$(cat {file} 2> /dev/null || echo gone)" = "{shown}" ]')
    return guest.run(LOOK).stdout.split()


def faked(kernel: Kernel, step: str) -> list[str]:
    group, _, cpus = step.partition(" ")
    if group == "online":
        hotplug.set_online(kernel, cpus)
    elif group == "box":
        cgroups.write(kernel, f"{systemd.ROOT}/box/cpuset.cpus", cpus)
    else:
        systemd.set_property(kernel, group, f"AllowedCPUs={cpus}")
    return [kernel.files[f"/proc/{pid}/status"].split()[-1] for pid in TASKS.values()]


def fake(release: str) -> Kernel:
    kernel = Kernel()
    kernel.trims, kernel.empties = release == "bookworm", release == "forky"
    every = {"/sys/devices/system/cpu/online": "0-7\n", "/sys/devices/system/cpu/possible": "0-7\n"}
    kernel.files |= every
    systemd.boot(kernel)
    for group in ("games.slice", "box"):
        systemd.make(kernel, group, str(TASKS[group]))
    for pid in TASKS.values():
        kernel.add_thread(pid, f"task {pid}", "0-7", flags=0x400100)
    return kernel


@pytest.mark.parametrize("play", PLAYS)
def test_tasks_are_where_the_kernel_has_them(guest: Guest, play: str) -> None:
    kernel = fake(guest.release)
    guest.run(PROGRAMS)
    try:
        for step in PLAYS[play]:
            wanted = faked(kernel, step)
            assert (step, real(guest, kernel, step)) == (step, wanted)
    finally:
        guest.run(END, check=False)
