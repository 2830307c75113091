"""The memory plugin: its names, what an empty table is, and that all of it comes back."""

from pathlib import Path
from typing import Any

import pytest

from tests.fakes import watchdog
from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.plugins.memory import Options, plan
from vfio_hooks.record import replace

UUID = "00000000-0000-0000-0000-00000000000a"
VM = Domain("vm", UUID)
PINNED = replace(VM, vcpu_pins={0: frozenset({1})})
FILES = {
    "/sys/kernel/mm/ksm/run": "1",
    "/sys/kernel/mm/transparent_hugepage/enabled": "[always] madvise never",
    "/sys/kernel/mm/transparent_hugepage/defrag": "always defer defer+madvise [madvise] never",
    "/proc/sys/vm/swappiness": "60",
    "/proc/sys/vm/compaction_proactiveness": "20",
    "/proc/sys/vm/zone_reclaim_mode": "0",
    "/proc/sys/vm/stat_interval": "1",
    "/proc/sys/kernel/numa_balancing": "1",
    "/proc/sys/kernel/sched_rt_runtime_us": "950000",
    "/sys/module/damon_stat/parameters/enabled": "Y",
}
EVERYTHING: dict[str, Any] = {
    "drop_caches": 3,
    "compact_memory": True,
    "ksm": 2,
    "transparent_hugepage": "never",
    "transparent_hugepage_defrag": "defer+madvise",
    "swappiness": 1,
    "compaction_proactiveness": 0,
    "zone_reclaim_mode": 1,
    "stat_interval": 60,
    "numa_balancing": 0,
    "nmi_watchdog": 0,
    "soft_watchdog": 0,
    "sched_rt_runtime_us": -1,
    "damon_stat": False,
}


def a_host() -> Kernel:
    kernel = Kernel()
    kernel.files |= {name: text + "\n" for name, text in FILES.items()}
    watchdog.add(kernel)
    return kernel


def planned(kernel: Kernel, domain: Domain = VM, **options: Any) -> dict[str, str]:
    steps = plan(Event("vm", "prepare"), domain, Options(**options), kernel)
    return {step.key: getattr(step.share, "value", "") for step in steps}


def test_an_empty_table_is_what_a_vm_gains_from() -> None:
    quiet = {
        "/sys/kernel/mm/ksm/run": "0",
        "/proc/sys/vm/compaction_proactiveness": "0",
        "/proc/sys/vm/stat_interval": "10",
        "/sys/module/damon_stat/parameters/enabled": "N",
    }
    assert planned(a_host()) == quiet
    balancing = {"/proc/sys/kernel/numa_balancing": "0"}
    assert planned(a_host(), PINNED) == quiet | balancing
    assert planned(a_host(), replace(VM, numa_nodes=frozenset({0}))) == quiet | balancing


def test_an_empty_table_leaves_out_what_the_kernel_has_not() -> None:
    kernel = a_host()
    del kernel.files["/sys/kernel/mm/ksm/run"]
    assert "/sys/kernel/mm/ksm/run" not in planned(kernel)
    assert planned(Kernel(), PINNED) == {}
    with pytest.raises(HookError, match="this kernel has no ksm"):
        planned(kernel, ksm=0)


def test_any_key_stands_for_itself_alone() -> None:
    assert planned(a_host(), PINNED, swappiness=10) == {"/proc/sys/vm/swappiness": "10"}


def test_everything_is_set_and_comes_back(memory: Path) -> None:
    kernel = a_host()
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    steps = list(plan(Event("vm", "prepare"), VM, Options(**EVERYTHING), kernel))
    engine.perform("prepare", UUID, "vm", lambda _: steps)
    assert kernel.triggered == ["/proc/sys/vm/drop_caches 3", "/proc/sys/vm/compact_memory 1"]
    assert all(kernel.state()[name] != before[name] for name in FILES)
    assert not kernel.watching
    assert engine.undo("release", UUID) == []
    assert kernel.state() == before


@pytest.mark.parametrize("counters", ["", "software", "cpu", "cpu_core", "armv8_pmuv3_0"])
def test_a_host_without_an_nmi_watchdog(counters: str) -> None:
    """Its file shows 0, and every write to it fails; there is nothing to set or to put back."""
    kernel = a_host()
    watchdog.add(kernel, nmi=0)
    if counters:
        kernel.files[f"/sys/bus/event_source/devices/{counters}/type"] = "4\n"
    if counters in ("", "software"):
        assert planned(kernel, nmi_watchdog=0) == {}
        with pytest.raises(HookError, match="this host cannot have an NMI watchdog"):
            planned(kernel, nmi_watchdog=1)
    else:
        assert planned(kernel, nmi_watchdog=1) == {watchdog.ONE[0]: "1"}


@pytest.mark.parametrize("nmi", [0, 1])
def test_watchdogs_come_back_although_somebody_looked(memory: Path, nmi: int) -> None:
    """`sysctl -a` between start and stop reads the file that controls both."""
    kernel = a_host()
    watchdog.add(kernel, nmi)
    watching = set(kernel.watching)
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    options = Options(nmi_watchdog=0, soft_watchdog=0)
    steps = list(plan(Event("vm", "prepare"), VM, options, kernel))
    engine.perform("prepare", UUID, "vm", lambda _: steps)
    assert kernel.read(watchdog.BOTH) == "0"
    assert engine.undo("release", UUID) == []
    assert kernel.watching == watching
    assert kernel.read(watchdog.BOTH) == "1"


@pytest.mark.parametrize(
    "options",
    [
        {"swappiness": 201},
        {"swappiness": -1},
        {"compaction_proactiveness": 101},
        {"zone_reclaim_mode": 8},
        {"stat_interval": 0},
        {"sched_rt_runtime_us": -2},
    ],
)
def test_numbers_that_the_kernel_would_refuse(options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be from"):
        Options(**options)  # type: ignore[arg-type]
