"""The memory and write plugins on the real kernel: what they set, and that it comes back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.direct import Direct
from tests.vm.domains import Domain
from tests.vm.guest import Guest

WANTED = {
    "/sys/kernel/mm/ksm/run": ("1", "2"),
    "/sys/kernel/mm/transparent_hugepage/enabled": ("always", "never"),
    "/sys/kernel/mm/transparent_hugepage/defrag": ("madvise", "defer+madvise"),
    "/proc/sys/vm/swappiness": ("60", "1"),
    "/proc/sys/vm/compaction_proactiveness": ("20", "0"),
    "/proc/sys/vm/zone_reclaim_mode": ("0", "1"),
    "/proc/sys/vm/stat_interval": ("1", "60"),
    "/proc/sys/kernel/numa_balancing": ("1", "0"),
    "/proc/sys/kernel/soft_watchdog": ("1", "0"),
    "/proc/sys/kernel/sched_rt_runtime_us": ("950000", "-1"),
    "/proc/sys/vm/dirty_ratio": ("20", "33"),
    "/proc/sys/net/ipv4/tcp_rmem": ("4096 131072 6291456", "4096 99999 6291456"),
    "/sys/class/net/lo/mtu": ("65536", "60000"),
}
"""The value of a freshly booted Debian, or one that is set before the test, and the VM's."""
TOML = """
[memory]
drop_caches = 1
compact_memory = true
ksm = 2
transparent_hugepage = "never"
transparent_hugepage_defrag = "defer+madvise"
swappiness = 1
compaction_proactiveness = 0
zone_reclaim_mode = 1
stat_interval = 60
numa_balancing = 0
nmi_watchdog = 0
soft_watchdog = 0
sched_rt_runtime_us = -1
[[write]]
path = "vm.dirty_ratio"
value = 33
[[write]]
path = "net.ipv4.tcp_rmem"
value = "4096 99999 6291456"
[[write]]
path = "/sys/class/net/lo/mtu"
value = 60000
"""


@pytest.fixture
def vms(hooked: Guest) -> Iterator[Direct]:
    """KSM runs, so that there is something to stop."""
    hooked.run("echo 1 > /sys/kernel/mm/ksm/run")
    direct = Direct(hooked)
    yield direct
    direct.forget()
    hooked.run("echo 0 > /sys/kernel/mm/ksm/run")


def values(vms: Direct) -> dict[str, str]:
    """Each value: of several choices the one in brackets, of numbers with single blanks."""
    lines = vms.guest.run(f"cat {' '.join(WANTED)}").stdout.splitlines()
    found = {}
    for path, text in zip(WANTED, lines, strict=True):
        all_of_it, bracket, rest = text.partition("[")
        found[path] = rest.partition("]")[0] if bracket else " ".join(all_of_it.split())
    return found


@pytest.mark.every_release
def test_everything_is_set_and_comes_back(vms: Direct) -> None:
    before = values(vms)
    # Newer kernels have other values of their own, of which the test needs only that they change.
    if vms.guest.release != "forky":
        assert before == {path: old for path, (old, _) in WANTED.items()}
    assert not [path for path, (_, new) in WANTED.items() if before[path] == new]
    vms.manage(Domain("quiet"), TOML)
    vms.manage(Domain("empty", pins={0: "1"}), "[memory]\n")
    assert vms.start("empty") == ""
    assert vms.start("quiet") == ""
    assert values(vms) == {path: new for path, (_, new) in WANTED.items()}
    vms.guest.run("sysctl -a > /dev/null 2>&1 || true")
    vms.stop("quiet")
    changed = {path: value for path, value in values(vms).items() if value != before[path]}
    assert changed == {
        "/sys/kernel/mm/ksm/run": "0",
        "/proc/sys/vm/compaction_proactiveness": "0",
        "/proc/sys/vm/stat_interval": "10",
        "/proc/sys/kernel/numa_balancing": "0",
    }
    vms.stop("empty")
    assert values(vms) == before


@pytest.mark.matrix_only
def test_what_cannot_be_written(vms: Direct) -> None:
    table = '[[write]]\npath = "{}"\nvalue = "{}"\n'
    for path, value, words in (
        ("/sys/module/kernel/parameters/../../../../etc/x", "1", "below /sys or /proc/sys"),
        ("vm.compact_memory", "1", "set once = true"),
        ("vm.swappiness", "900", "Invalid argument"),
        ("vm.dirty_background_ratio", "0x9", "the host shows '9'"),
    ):
        vms.manage(Domain("quiet"), table.format(path, value))
        assert words in vms.start("quiet"), path
