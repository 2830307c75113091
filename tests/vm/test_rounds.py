"""Rounds of a VM with all that moves tasks and interrupts, on a busy host whose CPUs come and go:
every task and every interrupt has the CPUs afterwards that it had before.

There are four kinds of rounds, and VFIO_HOOKS_ROUNDS says how many rounds in all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.effort import effort
from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import DRIVERS, GPU, GPU_AUDIO, GPU_USB, NIC, SRIOV_PF
from tests.vm.release import USER
from vfio_hooks.rehearse.compared import difference

ROUNDS = int(os.environ.get("VFIO_HOOKS_ROUNDS") or effort(4, 12))
NAME = "busy"
TOML = """\
[pci]
[gpu]
[cpus]
[irqs]
[governor]
[memory]
[hugepages]
[inhibit]
[[process]]
command = "sleep infinity"
user = "root"
[[sriov]]
pf = "{card}"
vf = 1
vlan = 69
[[write]]
path = "/proc/sys/vm/swappiness"
value = "7"
"""
# Programs in slices of the user's own, one within another; and groups as containers have.
PROGRAMS = f"""\
set -eu
systemd-run --quiet --unit=rounds-a --slice=games.slice sleep infinity
systemd-run --quiet --unit=rounds-b --slice=games-fps.slice sleep infinity
systemd-run --quiet --unit=rounds-c --slice=user.slice sleep infinity
systemd-run --quiet --unit=rounds-d --uid={USER} sleep infinity
mkdir -p /sys/fs/cgroup/box/inner
sleep infinity < /dev/null > /dev/null 2>&1 &
echo $! > /sys/fs/cgroup/box/inner/cgroup.procs
"""
END = """\
systemctl stop 'rounds-*' games.slice
kill $(cat /sys/fs/cgroup/box/inner/cgroup.procs)
until rmdir /sys/fs/cgroup/box/inner /sys/fs/cgroup/box; do sleep 0.1; done
"""
CPU = "/sys/devices/system/cpu/cpu{}/online"
LINK = f'ip link set dev "$(ls /sys/bus/pci/devices/{NIC}/net)" {{}}'
# A unit that is delegated the cpuset controller keeps it on for good.
DELEGATED = "systemd-run --quiet --unit=rounds-e -p Delegate=cpuset sleep infinity"


@pytest.fixture
def busy(hooked: Guest) -> Iterator[Guest]:
    domain = Domain(
        NAME,
        tuple(map(HostDevice, (GPU, GPU_AUDIO, GPU_USB))),
        vcpus=2,
        pins={0: "4", 1: "5"},
        emulator_pin="0-1",
        hugepages=2048,
    )
    hooked.run(f"{PROGRAMS}\n{LINK.format('up')}")
    card = hooked.run(f"ls /sys/bus/pci/devices/{SRIOV_PF}/net").stdout.strip()
    hooked.put(f"{HOOKS}/qemu.d/{NAME}/vm.toml", TOML.format(card=card))
    hooked.define(domain)
    yield hooked
    hooked.remove(NAME)
    hooked.run(f"rm -rf {HOOKS}/qemu.d/{NAME}; {LINK.format('down')}; {END}", check=False)


def again(guest: Guest, *addresses: str) -> None:
    """Let drivers go and take their devices again: they ask for their interrupts anew.

    A new interrupt never gets a CPU that is offline, whoever runs.
    """
    for address in addresses:
        folder = f"/sys/bus/pci/drivers/{DRIVERS[address]}"
        guest.run(f"echo {address} > {folder}/unbind && echo {address} > {folder}/bind")
    guest.run("udevadm settle")


def switch(guest: Guest, on: bool, *cpus: int) -> None:
    for cpu in cpus:
        guest.run(f"echo {int(on)} > {CPU.format(cpu)}")


@pytest.mark.matrix_only
def test_all_is_as_before_after_every_round(busy: Guest) -> None:
    kinds = ["back while it runs", "back later", "there later", "delegated"]
    for number in range(ROUNDS):
        kind = kinds[number % len(kinds)]
        if kind == "delegated":
            busy.run(DELEGATED)
        before = busy.snapshot()
        if kind == "there later":
            switch(busy, False, 7)
        busy.start(NAME)
        status = "/proc/$(systemctl show -P MainPID rounds-b)/status"
        cpus = busy.run(f"grep Cpus_allowed_list {status}").stdout.split()[1]
        assert cpus == ("0-3,6" if kind == "there later" else "0-3,6-7")
        if kind == "there later":
            switch(busy, True, 7)
        again(busy, NIC)
        busy.run(LINK.format("up"))
        if kind != "there later":
            # One of the host's, and one of the VM's.
            switch(busy, False, 7, 5)
        if kind == "back while it runs":
            switch(busy, True, 7, 5)
        busy.destroy(NAME)
        switch(busy, True, 7, 5)
        # What waited for a CPU is put back by the next event.
        busy.run(f"vfio-hooks undo {NAME}")
        busy.run("! ls /run/vfio-hooks/*.journal 2> /dev/null")
        if kind in ("back later", "delegated"):
            # libvirt gave them back while CPUs were offline.
            again(busy, GPU_AUDIO, GPU_USB)
        assert difference(before, busy.snapshot()) == [], f"round {number}: {kind}"
        busy.run("systemctl stop rounds-e", check=False)


@pytest.mark.matrix_only
def test_cpus_that_are_offline_at_the_stop(hooked: Guest) -> None:
    """Linux 6.1 takes these from kernel threads, which get them back by the next event."""
    before, direct = hooked.snapshot(), Direct(hooked)
    direct.manage(Domain("own", vcpus=2, pins={0: "4", 1: "5"}), "[cpus]\n")
    assert direct.start("own") == ""
    switch(hooked, False, 7, 5)
    direct.stop("own")
    status = hooked.run("vfio-hooks status").stdout
    assert ("it waits for CPUs that are offline: 5,7" in status) == (hooked.release == "bookworm")
    switch(hooked, True, 7, 5)
    direct.forget()
    assert hooked.run("vfio-hooks status").stdout == "nothing is changed\n"
    assert difference(before, hooked.observe(before)[0]) == []


def test_a_program_that_chose_its_cpus(busy: Guest) -> None:
    """Linux 6.1 forgets that whenever the set around it changes; so would it without us."""
    busy.run("systemd-run --quiet --unit=rounds-f --slice=games.slice sleep infinity")
    pid = busy.run("systemctl show -P MainPID rounds-f").stdout.strip()

    def own() -> str:
        return busy.run(f"grep Cpus_allowed_list /proc/{pid}/status").stdout.split()[1]

    busy.run(f"taskset -cp 2-5 {pid}")
    group = "/sys/fs/cgroup/games.slice/cpuset.cpus"
    for cpus in ("0-3,6-7", "0-7", ""):
        busy.run(f"systemctl set-property --runtime games.slice AllowedCPUs={cpus}")
        busy.wait(f"grep -qx {cpus} {group}" if cpus else f"! test -e {group}")
    busy.run("rm -r /run/systemd/system.control/games.slice.d")
    without_us = own()
    assert without_us == "2-5" or busy.release == "bookworm"
    busy.run(f"taskset -cp 2-5 {pid}")
    direct = Direct(busy)
    direct.manage(Domain("own", vcpus=2, pins={0: "4", 1: "5"}), "[cpus]\n")
    assert direct.start("own") == ""
    assert own() == ("0-3,6-7" if without_us == "0-7" else "2-3")
    direct.stop("own")
    assert own() == without_us
    direct.forget()
