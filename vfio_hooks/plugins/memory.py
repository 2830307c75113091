"""The kernel's memory management and housekeeping, kept from disturbing the VM while it runs.

The keys have the kernel's own names and take the kernel's own values. The previous values are
restored when the VM has ended. An empty table changes what costs a VM time and what the host does
not need for the length of a game: no KSM (`ksm = 0`), no proactive compaction
(`compaction_proactiveness = 0`), statistics every 10 seconds (`stat_interval = 10`), none of the
samples that Linux 7 takes of all memory by default (`damon_stat = false`), and, for a VM that is
bound to CPUs or to nodes, no NUMA balancing (`numa_balancing = 0`). What the kernel does not have
is left out. A table with any key does only what its keys say.
"""

from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.trigger import Trigger
from vfio_hooks.knobs.watchdog import Watchdog
from vfio_hooks.record import record
from vfio_hooks.sharing import Once, Override
from vfio_hooks.steps import Step

_FILES = {
    "ksm": "/sys/kernel/mm/ksm/run",
    "transparent_hugepage": "/sys/kernel/mm/transparent_hugepage/enabled",
    "transparent_hugepage_defrag": "/sys/kernel/mm/transparent_hugepage/defrag",
    "swappiness": "/proc/sys/vm/swappiness",
    "compaction_proactiveness": "/proc/sys/vm/compaction_proactiveness",
    "zone_reclaim_mode": "/proc/sys/vm/zone_reclaim_mode",
    "stat_interval": "/proc/sys/vm/stat_interval",
    "numa_balancing": "/proc/sys/kernel/numa_balancing",
    "nmi_watchdog": "/proc/sys/kernel/nmi_watchdog",
    "soft_watchdog": "/proc/sys/kernel/soft_watchdog",
    "sched_rt_runtime_us": "/proc/sys/kernel/sched_rt_runtime_us",
    "damon_stat": "/sys/module/damon_stat/parameters/enabled",
}
_COUNTERS = "/sys/bus/event_source/devices"
_WATCHDOGS = ("nmi_watchdog", "soft_watchdog")


@record
class Options:
    drop_caches: Literal[0, 1, 2, 3] = 0
    """What to drop from memory once, before the VM starts: 1 the page cache, 2 dentries and inodes,
    3 both. There is nothing to undo."""
    compact_memory: bool = False
    """Whether memory is compacted once, before the VM starts. There is nothing to undo."""
    ksm: Literal[0, 1, 2] | None = None
    """The merging of equal pages: 0 stops it, 1 runs it, 2 stops it and separates the pages that
    were merged."""
    transparent_hugepage: Literal["always", "madvise", "never"] | None = None
    """The file enabled below /sys/kernel/mm/transparent_hugepage."""
    transparent_hugepage_defrag: (
        Literal["always", "defer", "defer+madvise", "madvise", "never"] | None
    ) = None
    """The file defrag below /sys/kernel/mm/transparent_hugepage."""
    swappiness: int | None = None
    """The sysctl vm.swappiness, 0 to 200."""
    compaction_proactiveness: int | None = None
    """The sysctl vm.compaction_proactiveness, 0 to 100."""
    zone_reclaim_mode: int | None = None
    """The sysctl vm.zone_reclaim_mode, 0 to 7."""
    stat_interval: int | None = None
    """The sysctl vm.stat_interval: how many seconds pass between two updates of the kernel's
    statistics."""
    numa_balancing: Literal[0, 1, 2] | None = None
    """The sysctl kernel.numa_balancing."""
    nmi_watchdog: Literal[0, 1] | None = None
    """The sysctl kernel.nmi_watchdog. While it is 0 the kernel does not notice a CPU that hangs."""
    soft_watchdog: Literal[0, 1] | None = None
    """The sysctl kernel.soft_watchdog. While it is 0 the kernel does not notice a CPU that runs
    nothing but the kernel."""
    sched_rt_runtime_us: int | None = None
    """The sysctl kernel.sched_rt_runtime_us: how many microseconds of each second real-time tasks
    may run. With -1 they may use all of a CPU. On Linux 7 they may anyway: the value is 1000000
    there, a whole second, and other tasks get their share in another way."""
    damon_stat: bool | None = None
    """The parameter `enabled` of the kernel module damon_stat, whose thread takes samples of all
    memory."""

    def __post_init__(self) -> None:
        for name, lowest, highest in (
            ("swappiness", 0, 200),
            ("compaction_proactiveness", 0, 100),
            ("zone_reclaim_mode", 0, 7),
            ("stat_interval", 1, 3600),
            ("sched_rt_runtime_us", -1, 1_000_000),
        ):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= highest:
                raise ValueError(f"{name} must be from {lowest} to {highest}")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    if options == Options():
        options = _derived(domain, host)
    if options.drop_caches:
        yield Step("memory", Trigger("/proc/sys/vm/drop_caches"), Once(str(options.drop_caches)))
    if options.compact_memory:
        yield Step("memory", Trigger("/proc/sys/vm/compact_memory"), Once("1"))
    for name, path in _FILES.items():
        value = getattr(options, name)
        if value is None:
            continue
        if not host.exists(path):
            raise HookError(f"this kernel has no {name} ({path})", f"remove {name} from [memory]")
        if name == "nmi_watchdog" and not _has_nmi_watchdog(host):
            if value:
                raise HookError(
                    "this host cannot have an NMI watchdog, because its CPUs have no "
                    "event counters",
                    "remove nmi_watchdog from [memory]",
                )
            continue
        knob = Watchdog(path) if name in _WATCHDOGS else File(path)
        # A module's parameter shows Y or N.
        text = "NY"[value] if isinstance(value, bool) else str(value)
        yield Step("memory", knob, Override(text))


def _has_nmi_watchdog(host: Host) -> bool:
    """Whether the host can have an NMI watchdog. It needs an event counter of the processor, which
    a virtual machine may not have. Its file then shows 0, and the kernel refuses every write, even
    of 0."""
    return host.maybe(_FILES["nmi_watchdog"]) == "1" or any(
        name.startswith(("cpu", "arm")) for name in host.names(_COUNTERS)
    )


def _derived(domain: Domain, host: Host) -> Options:
    """What an empty table stands for."""
    is_bound = bool(domain.pinned or domain.numa_nodes or domain.cell_nodes)
    values = {"ksm": 0, "compaction_proactiveness": 0, "stat_interval": 10, "damon_stat": False}
    if is_bound:
        values["numa_balancing"] = 0
    there = {name: value for name, value in values.items() if host.exists(_FILES[name])}
    return Options(**there)  # type: ignore[arg-type]
