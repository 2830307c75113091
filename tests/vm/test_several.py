"""Two and three VMs at once with all of it: CPUs, interrupts, governors and hugepages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.effort import effort
from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from vfio_hooks.host.cpulist import format_list, format_mask

ALL = frozenset(range(8))
TOML = '[cpus]\nkernel_threads = false\n[irqs]\n[hugepages]\n[governor]\ngovernor = "{}"\n'
GOVERNORS = {"a": "performance", "b": "powersave", "c": "ondemand"}
CPUS = {"a": (4, 5), "b": (5, 6), "c": (2, 3)}
PAGES = {"a": (0, 32), "b": (0, 31), "c": (33, 0)}
"""On each node: that of the CPUs, as nothing else is asked for."""


def domain(name: str) -> Domain:
    pins = dict(enumerate(map(str, CPUS[name])))
    return Domain(name, memory=2 * sum(PAGES[name]), vcpus=2, pins=pins, hugepages=2048)


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    direct = Direct(hooked)
    for name in CPUS:
        direct.manage(domain(name), TOML.format(GOVERNORS[name]))
    yield direct
    direct.forget()


def live(guest: Guest) -> list[str]:
    line = (
        "cd /sys/devices/system; cat /sys/fs/cgroup/system.slice/cpuset.cpus.effective"
        " /proc/irq/default_smp_affinity node/node?/hugepages/hugepages-2048kB/nr_hugepages"
        " cpu/cpufreq/policy?/scaling_governor"
    )
    return guest.run(line, check=False).stdout.split()[-12:]


def expected(host: Sequence[str], running: Sequence[str]) -> list[str]:
    """What has to be live with these VMs, in the order of their starts, where the host itself has
    these governors."""
    left = ALL.difference(*(CPUS[name] for name in running))
    pages = [str(sum(PAGES[name][node] for name in running)) for node in (0, 1)]
    governors = list(host)
    for name in running:
        for cpu in CPUS[name]:
            governors[cpu] = GOVERNORS[name]
    return [format_list(left), format_mask(left), *pages, *governors]


def check(guest: Guest, host: Sequence[str], running: Sequence[str], step: str) -> None:
    found, wanted = live(guest), expected(host, running)
    assert found[-11:] == wanted[1:], step
    # Without any VM systemd may switch the controller off, and then there is no such file.
    assert found[:-11] == wanted[:1] or not running, step


@pytest.mark.parametrize("order", ["cbaacb", "bcabcacb", "abcabc", "acbacacb"][: effort(1, 4)])
def test_orders(vms: Direct, order: str) -> None:
    """A letter starts its VM or, the second time, stops it."""
    governors = live(vms.guest)[-8:]
    running: list[str] = []
    for step, name in enumerate(order):
        if name in running:
            vms.stop(name)
            running.remove(name)
        else:
            assert vms.start(name) == ""
            running.append(name)
        check(vms.guest, governors, running, order[: step + 1])


@pytest.mark.matrix_only
def test_real_ones_of_which_one_crashes(hooked: Guest) -> None:
    """Two that share a CPU and pages' node, in both orders, beside one that shares neither. At a
    capital letter the QEMU of its VM is killed."""
    governors, order = live(hooked)[-8:], "abcAcaba"
    running: list[str] = []
    try:
        for name in CPUS:
            hooked.put(f"{HOOKS}/qemu.d/{name}/vm.toml", TOML.format(GOVERNORS[name]))
            hooked.define(domain(name))
        for step, letter in enumerate(order):
            name = letter.lower()
            if name not in running:
                hooked.start(name)
                running.append(name)
            else:
                running.remove(name)
                if letter == name:
                    hooked.destroy(name)
                else:
                    hooked.run(f"kill -9 $(cat /run/libvirt/qemu/{name}.pid)")
                    journals = "$(ls /run/vfio-hooks/*.journal | wc -l)"
                    hooked.wait(f'[ "{journals}" = {len(running)} ]')
            check(hooked, governors, running, order[: step + 1])
    finally:
        for name in CPUS:
            hooked.remove(name)
        hooked.run(f"rm -rf {HOOKS}/qemu.d/*")
