"""Which cores of its nodes a VM gets: those of one level 3 cache, or of few."""

from collections.abc import Iterable, Sequence

from vfio_hooks.host.cpu import Cache, Node, Topology
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.memory import amount
from vfio_hooks.plural import counted


def choose(
    found: Topology,
    free: Sequence[CpuSet],
    nodes: Sequence[Node],
    vcpus: int,
    reasons: list[str],
) -> list[CpuSet]:
    """Cores of these nodes, in the order of their CPUs."""
    ours = [core for node in nodes for core in within(free, node.cpus)]
    groups = [within(ours, cache.cpus) for cache in found.l3]
    groups = [group for group in groups if group]
    apart = [core for core in ours if not any(core in group for group in groups)]
    if apart:
        groups.append(apart)
    fitting = [group for group in groups if count(group) >= vcpus]
    if fitting:
        group, why = _cache(found, fitting)
        if len(groups) > 1 and found.l3:
            reasons.append(f"all share one L3 cache{why}")
        return _last(group, vcpus)
    chosen = _spread(sorted(groups, key=count, reverse=True), vcpus)
    if len(groups) > 1:
        most = max(map(count, groups))
        reasons.append(
            "no L3 cache has enough free cores, so several are used; "
            f"{counted(most, 'vCPU')} would fit on one"
        )
    return sorted(chosen, key=min)


def _spread(groups: Sequence[list[CpuSet]], vcpus: int) -> list[CpuSet]:
    """Cores of as few groups as possible, about as many from each: 2 and 2 rather than 3 and 1."""
    few = next(n for n in range(1, len(groups) + 1) if sum(map(count, groups[:n])) >= vcpus)
    chosen: list[CpuSet] = []
    # The smallest group first; the larger ones provide what it lacks.
    for number, group in enumerate(sorted(groups[:few], key=count)):
        left = vcpus - count(chosen)
        share = -(-left // (few - number))
        chosen += _last(group, min(share, count(group)))
    return chosen


def _cache(found: Topology, groups: Sequence[list[CpuSet]]) -> tuple[list[CpuSet], str]:
    """The cores of the best cache of these, and what is special about it."""
    busy = next((cache.cpus for cache in found.l3 if min(found.online) in cache.cpus), None)

    largest = max(cache_of(found, group[0]).size for group in groups)

    def preference(group: list[CpuSet]) -> tuple[bool, bool, int, int]:
        # The cache of the host's own core is full of the host's own data, but a game gains more
        # from a cache that is much larger.
        return (
            cache_of(found, group[0]).is_dwarfed(largest),
            bool(busy and group[0] <= busy),
            count(group),
            -min(map(min, group)),
        )

    ranked = sorted(groups, key=preference)
    is_special = preference(ranked[0])[0] != preference(ranked[-1])[0]
    return ranked[0], f", the larger one ({amount(largest)})" if is_special else ""


def cache_of(found: Topology, core: CpuSet) -> Cache:
    """The level 3 cache of a core; a cache of size 0 if it has none."""
    none = Cache(3, core, 0)
    return next((cache for cache in found.l3 if core <= cache.cpus), none)


def _last(cores: Sequence[CpuSet], vcpus: int) -> list[CpuSet]:
    """As few cores as are enough, whole ones first and from the end."""
    whole = max(map(len, cores))
    chosen: list[CpuSet] = []
    for core in sorted(cores, key=lambda core: (len(core) != whole, -min(core))):
        if count(chosen) < vcpus:
            chosen.append(core)
    return sorted(chosen, key=lambda core: (len(core) != whole, min(core)))


def within(cores: Iterable[CpuSet], cpus: CpuSet) -> list[CpuSet]:
    """The cores that are among these CPUs."""
    return [core for core in cores if core <= cpus]


def count(cores: Iterable[CpuSet]) -> int:
    """How many vCPUs have room on them: one on each thread."""
    return sum(map(len, cores))
