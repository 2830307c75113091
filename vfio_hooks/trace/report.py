"""The stalls of a recording, added up by CPU and by culprit, with what would avoid each."""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.record import record
from vfio_hooks.trace.timeline import Kind, Stall

PERCENTILES = (50.0, 99.0, 99.9)
BOUNDS = (5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000)
"""The upper bounds of a histogram's columns, in microseconds; the last column has all above."""
_OF_ONE_CPU = re.compile(r".+/\d+(?::\S+)?")


@record
class OfCpu:
    """One CPU: how often, and for which part of the time, it did something else, and the longest
    stall with its culprit. `percentiles` are those of PERCENTILES. Times are in microseconds."""

    cpu: int
    count: int
    share: float
    longest: float
    culprit: str
    percentiles: tuple[float, ...]


@record
class Culprit:
    """What used the VM's CPUs, how often, how long in all and at most (microseconds), on which
    CPUs, and what would avoid it. `senders` sent its interrupts."""

    kind: Kind
    name: str
    count: int
    total: float
    longest: float
    cpus: str
    remedy: str
    senders: tuple[str, ...] = ()


@record
class Report:
    """A measurement of a VM's CPUs. `histogram` counts stalls by the columns of BOUNDS."""

    vm: str
    seconds: float
    cost: float
    lost: int
    cpus: tuple[OfCpu, ...]
    culprits: tuple[Culprit, ...]
    histogram: tuple[int, ...]


def of_cpus(stalls: Iterable[Stall], cpus: CpuSet, seconds: float) -> tuple[OfCpu, ...]:
    on: dict[int, list[Stall]] = defaultdict(list)
    for stall in stalls:
        on[stall.cpu].append(stall)
    return tuple(_of_cpu(cpu, on[cpu], seconds) for cpu in sorted(cpus))


def _of_cpu(cpu: int, stalls: Sequence[Stall], seconds: float) -> OfCpu:
    lengths = sorted(stall.microseconds for stall in stalls)
    longest = max(stalls, key=lambda stall: stall.microseconds, default=None)
    return OfCpu(
        cpu,
        len(lengths),
        sum(lengths) / (seconds * 1e6),
        longest.microseconds if longest else 0.0,
        f"{longest.kind} {longest.name}" if longest else "",
        tuple(percentile(lengths, part) for part in PERCENTILES),
    )


def percentile(ordered: Sequence[float], part: float) -> float:
    """The smallest value that `part` percent of the values do not exceed; 0 if there are none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]


def culprits(stalls: Iterable[Stall], cpus: CpuSet) -> tuple[Culprit, ...]:
    """What used the CPUs, the longest total time first."""
    of: dict[tuple[Kind, str], list[Stall]] = defaultdict(list)
    for stall in stalls:
        of[stall.kind, stall.name].append(stall)
    found = [_culprit(kind, name, several, cpus) for (kind, name), several in of.items()]
    return tuple(sorted(found, key=lambda one: -one.total))


def _culprit(kind: Kind, name: str, stalls: Sequence[Stall], cpus: CpuSet) -> Culprit:
    senders = dict.fromkeys(stall.sender for stall in stalls if stall.sender)
    return Culprit(
        kind,
        name,
        len(stalls),
        sum(stall.microseconds for stall in stalls),
        max(stall.microseconds for stall in stalls),
        format_list({stall.cpu for stall in stalls}),
        remedy(kind, name, cpus),
        tuple(senders),
    )


def histogram(stalls: Iterable[Stall]) -> tuple[int, ...]:
    counts = [0] * (len(BOUNDS) + 1)
    for stall in stalls:
        column = next((n for n, bound in enumerate(BOUNDS) if stall.microseconds < bound), -1)
        counts[column] += 1
    return tuple(counts)


def remedy(kind: Kind, name: str, cpus: CpuSet) -> str:
    """The table of vm.toml or the kernel parameter that keeps a culprit off the VM's CPUs; "" if
    there is none."""
    own = format_list(cpus)
    if kind == "irq":
        managed = "nvme" in name or "virtio" in name
        return f"isolcpus=managed_irq,{own} at boot" if managed else "[irqs]"
    if kind == "task":
        return _of_task(name, own)
    for part, text in (
        ("tick", f"nohz_full={own} at boot"),
        ("watchdog_timer_fn", "soft_watchdog = 0 in [memory]"),
        ("clocksource_watchdog", "tsc=reliable at boot, if the processor's TSC is"),
        ("RCU", f"rcu_nocbs={own} at boot"),
        ("NET", "[irqs]"),
        ("SCHED", f"nohz_full={own} at boot"),
        ("hrtimer_wakeup", "[cpus]: a program set this timer on the CPU"),
        ("local_timer", f"nohz_full={own} at boot"),
        ("TIMER", f"nohz_full={own} at boot"),
    ):
        if part in name:
            return text
    return "[cpus], so that the programs that send it run elsewhere" if kind == "ipi" else ""


def _of_task(name: str, own: str) -> str:
    title = name.partition(" (")[0].rpartition("-")[0]
    if "vmstat" in name:
        return "[memory] stat_interval"
    if title.startswith("irq/"):
        return "[irqs]"
    if title.startswith("rcu"):
        return f"rcu_nocbs={own} at boot"
    # ksoftirqd/4, kworker/4:1: a kernel thread that belongs to this CPU stays there.
    return "" if _OF_ONE_CPU.fullmatch(title) else "[cpus]"
