"""Two and three VMs at once with all of it: CPUs, interrupts, governors and hugepages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from vfio_hooks.host.cpulist import format_list, format_mask

ALL = frozenset(range(8))
TOML = '[cpus]\nkernel_threads = false\n[irqs]\n[hugepages]\n[governor]\ngovernor = "{}"\n'
GOVERNORS = {"a": "performance", "b": "powersave", "c": "ondemand"}
CPUS = {"a": (4, 5), "b": (5, 6), "c": (2, 3)}
PAGES = {"a": (8, 0), "b": (0, 6), "c": (4, 0)}
"""On each node."""


def domain(name: str) -> Domain:
    node = "0" if PAGES[name][0] else "1"
    return Domain(
        name,
        memory=2 * sum(PAGES[name]),
        vcpus=2,
        pins=dict(enumerate(map(str, CPUS[name]))),
        nodes=node,
        hugepages=2048,
    )


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


@pytest.mark.parametrize("order", ["abcabc", "cbaacb", "bcabcacb", "acbacacb"])
def test_orders(vms: Direct, order: str) -> None:
    """A letter starts its VM or, the second time, stops it."""
    governors = live(vms.guest)[-8:]
    running: list[str] = []
    for name in order:
        if name in running:
            vms.stop(name)
            running.remove(name)
        else:
            assert vms.start(name) == ""
            running.append(name)
        found = live(vms.guest)
        wanted = expected(governors, running)
        assert found[-11:] == wanted[1:], (name, order)
        # Without any VM systemd switches the controller off, and there is no such file.
        assert found[:-11] == wanted[:1] or not running, (name, order)


def test_real_ones_of_which_one_crashes(hooked: Guest) -> None:
    host = live(hooked)[-8:]
    for name in ("a", "b"):
        toml = TOML.format(GOVERNORS[name]).replace("[hugepages]\n", "")
        hooked.put(f"{HOOKS}/qemu.d/{name}/vm.toml", toml)
        pins = dict(enumerate(map(str, CPUS[name])))
        hooked.define(Domain(name, vcpus=2, pins=pins, emulator_pin="0-1"))

    def check(running: str) -> None:
        found, wanted = live(hooked), expected(host, running)
        assert [*found[:2], *found[4:]] == [*wanted[:2], *wanted[4:]], running

    try:
        hooked.start("a")
        check("a")
        hooked.start("b")
        check("ab")
        hooked.run("kill -9 $(cat /run/libvirt/qemu/a.pid)")
        hooked.wait('[ "$(ls /run/vfio-hooks/*.journal | wc -l)" = 1 ]')
        check("b")
        hooked.destroy("b")
        assert live(hooked)[-8:] == host
    finally:
        for name in ("a", "b"):
            hooked.remove(name)
        hooked.run(f"rm -rf {HOOKS}/qemu.d/a {HOOKS}/qemu.d/b")
