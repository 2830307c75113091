"""Which CPUs a VM should be pinned to: whole cores, near to its devices, and none of the host's.

A pure choice, from the topology and what others have. What speaks for a place, in this order:
one NUMA node, which has room for the VM's memory and is that of its graphics card; one level 3
cache, a large one where sizes differ, and the fullest that still fits; cores far from CPU 0, whose
core is always the host's, as the kernel's own work is there, and whose cache is the last choice.
"""

from collections.abc import Iterable, Sequence

from vfio_hooks.errors import HookError
from vfio_hooks.host.cpu import NODES, Cache, Node, Topology
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.memory import amount, fits
from vfio_hooks.placement.wish import Wish
from vfio_hooks.record import record


@record
class Placement:
    """A CPU for each vCPU, in their order; `threads` of them each share a core, and the guest
    should know. The emulator's threads and each I/O thread have CPUs of the host's side. `nodes`
    are those of the vCPUs; `reasons` are sentences that say why here."""

    vcpus: tuple[int, ...]
    threads: int
    emulator: CpuSet
    iothreads: tuple[CpuSet, ...]
    nodes: tuple[int, ...]
    reasons: tuple[str, ...]


def place(found: Topology, wish: Wish) -> Placement:
    """Choose. Raises HookError where the vCPUs do not fit."""
    if found.online != frozenset[int]().union(*(node.cpus for node in found.nodes)):
        raise HookError(
            f"{NODES}: some CPUs are not on any node", "is this the whole /sys of a host?"
        )
    free = _free(found, wish)
    reasons = [f"CPU {format_list(found.cores[0])} stays with the host"]
    free = _fastest(found, free, wish, reasons)
    if _room(free) < wish.vcpus or wish.vcpus < 1:
        raise _too_many(found, wish, _room(free))
    nodes = _nodes(found, free, wish, reasons)
    cores = _cores(found, free, nodes, wish.vcpus, reasons)
    threads = _threads(cores, wish.vcpus)
    vcpus = tuple(cpu for core in cores for cpu in sorted(core))[: wish.vcpus]
    if found.cores != tuple(frozenset({cpu}) for cpu in sorted(found.online)):
        reasons.append(
            f"they fill {len(cores)} whole cores, so nothing else runs on an SMT sibling"
        )
    if wish.taken:
        reasons.append(f"CPUs {format_list(wish.taken)} belong to other VMs")
    emulator, iothreads = _helpers(found, frozenset[int]().union(*cores), wish)
    if wish.iothreads:
        reasons.append("the emulator and I/O threads are on the host's CPUs nearest to them")
    else:
        reasons.append("the emulator's threads are on the host's CPUs nearest to them")
    numbers = tuple(sorted(node.number for node in nodes if node.cpus & frozenset(vcpus)))
    return Placement(vcpus, threads, emulator, iothreads, numbers, tuple(reasons))


def _free(found: Topology, wish: Wish) -> list[CpuSet]:
    """The cores that a VM may have; those of the host's first CPU and of other VMs are not."""
    return [core for core in found.cores[1:] if not core & wish.taken]


def _fastest(found: Topology, free: list[CpuSet], wish: Wish, reasons: list[str]) -> list[CpuSet]:
    """Only cores of the fastest kind, where they are enough: a VM whose vCPUs are not alike has
    a guest that waits for the slow ones."""
    alike = {kind: [core for core in free if core <= cpus] for kind, cpus in found.kinds.items()}
    for kind, cores in alike.items():
        if _room(cores) >= wish.vcpus:
            reasons.append(f"all are {kind} cores")
            return cores
    if alike:
        fastest = next(iter(alike))
        reasons.append(
            "there are not enough cores of one kind, so the vCPUs are on several kinds; "
            f"{_room(alike[fastest])} vCPUs would fit on {fastest} cores alone"
        )
    return free


def _nodes(found: Topology, free: Sequence[CpuSet], wish: Wish, reasons: list[str]) -> list[Node]:
    """The one node that the cores are taken from; several where none is big enough."""
    nodes = [node for node in found.nodes if node.cpus]
    home = next((node for node in found.nodes if node.number == wish.node), None)
    first = min(found.online)

    def far(node: Node) -> tuple[int, int]:
        return _lack(node, wish), home.distances.get(node.number, 255) if home else 0

    def preference(node: Node) -> tuple[tuple[int, int], bool, int, int]:
        room = _room(_within(free, node.cpus))
        # Without a device to be near to: leave the first node, and large gaps, alone.
        return far(node), first in node.cpus, room, -node.number

    nodes.sort(key=preference)
    if len(nodes) == 1:
        return nodes
    for node in nodes:
        if _room(_within(free, node.cpus)) >= wish.vcpus:
            reasons.append(_why(node, home, wish))
            return [node]
    chosen: list[Node] = []
    nodes.sort(key=lambda node: (far(node), -_room(_within(free, node.cpus))))
    for node in nodes:
        if _room([core for one in chosen for core in _within(free, one.cpus)]) < wish.vcpus:
            chosen.append(node)
    numbers = format_list(node.number for node in chosen)
    reasons.append(
        f"no node has {wish.vcpus} free CPUs, so the vCPUs are on nodes {numbers}; fewer vCPUs "
        f"would be faster"
    )
    return chosen


def _lack(node: Node, wish: Wish) -> int:
    """0 where the VM's memory can be on a node, 2 where nothing can."""
    if not wish.memory or fits(wish.memory, [node]):
        return 0
    return 1 if node.memory else 2


def _why(node: Node, home: Node | None, wish: Wish) -> str:
    if home is None:
        return f"node {node.number} has room for all {wish.vcpus}"
    if home is node:
        return f"node {node.number} is where its graphics card is"
    if not home.cpus:
        return f"node {node.number} is nearest to its graphics card"
    what = f"{wish.vcpus} vCPUs"
    if _lack(home, wish) > _lack(node, wish):
        what = f"{amount(wish.memory)} of memory"
    return (
        f"its graphics card is at node {home.number}, which has no room for {what}; node "
        f"{node.number} is the nearest one that has"
    )


def _cores(
    found: Topology,
    free: Sequence[CpuSet],
    nodes: Sequence[Node],
    vcpus: int,
    reasons: list[str],
) -> list[CpuSet]:
    """Cores of these nodes, in the order of their CPUs: of one level 3 cache, or of few."""
    ours = [core for node in nodes for core in _within(free, node.cpus)]
    groups = [_within(ours, cache.cpus) for cache in found.l3]
    groups = [group for group in groups if group]
    apart = [core for core in ours if not any(core in group for group in groups)]
    if apart:
        groups.append(apart)
    fitting = [group for group in groups if _room(group) >= vcpus]
    if fitting:
        group, why = _cache(found, fitting)
        if len(groups) > 1 and found.l3:
            reasons.append(f"all share one L3 cache{why}{_larger(found, groups, group)}")
        return _last(group, vcpus)
    chosen = _spread(sorted(groups, key=_room, reverse=True), vcpus)
    if len(groups) > 1:
        most = max(map(_room, groups))
        reasons.append(
            f"no L3 cache has enough free cores, so several are used; {most} vCPUs would fit on one"
        )
    return sorted(chosen, key=min)


def _spread(groups: Sequence[list[CpuSet]], vcpus: int) -> list[CpuSet]:
    """Cores of as few groups as are enough, of each about as many: 2 and 2 rather than 3 and 1."""
    count = next(n for n in range(1, len(groups) + 1) if sum(map(_room, groups[:n])) >= vcpus)
    chosen: list[CpuSet] = []
    # The smallest first; what it lacks the larger ones provide.
    for number, group in enumerate(sorted(groups[:count], key=_room)):
        left = vcpus - _room(chosen)
        share = -(-left // (count - number))
        chosen += _last(group, min(share, _room(group)))
    return chosen


def _cache(found: Topology, groups: Sequence[list[CpuSet]]) -> tuple[list[CpuSet], str]:
    """The cores of the best cache of these, and what is special about it."""
    busy = next((cache.cpus for cache in found.l3 if min(found.online) in cache.cpus), None)

    largest = max(_cache_of(found, group).size for group in groups)

    def preference(group: list[CpuSet]) -> tuple[bool, bool, int, int]:
        # The cache of the host's own core is full of the host's own things, but a game gains more
        # from one that is much larger.
        return (
            _cache_of(found, group).is_dwarfed(largest),
            bool(busy and group[0] <= busy),
            _room(group),
            -min(map(min, group)),
        )

    ranked = sorted(groups, key=preference)
    is_special = preference(ranked[0])[0] != preference(ranked[-1])[0]
    return ranked[0], f", the larger one ({amount(largest)})" if is_special else ""


def _larger(found: Topology, groups: Sequence[list[CpuSet]], chosen: list[CpuSet]) -> str:
    """What fewer vCPUs would gain: the larger cache (X3D), which has no room for all of them."""
    own = _cache_of(found, chosen)
    better = [group for group in groups if own.is_dwarfed(_cache_of(found, group).size)]
    if not better:
        return ""
    best = max(better, key=_room)
    size = amount(_cache_of(found, best).size)
    return f"; {_room(best)} vCPUs would fit on the larger one ({size}), from which games gain more"


def _cache_of(found: Topology, group: list[CpuSet]) -> Cache:
    """The level 3 cache of these cores; one of size 0 where they have none."""
    none = Cache(3, group[0], 0)
    return next((cache for cache in found.l3 if group[0] <= cache.cpus), none)


def _last(cores: Sequence[CpuSet], vcpus: int) -> list[CpuSet]:
    """As few as are enough, whole ones first and from the end."""
    whole = max(map(len, cores))
    chosen: list[CpuSet] = []
    for core in sorted(cores, key=lambda core: (len(core) != whole, -min(core))):
        if _room(chosen) < vcpus:
            chosen.append(core)
    return sorted(chosen, key=lambda core: (len(core) != whole, min(core)))


def _threads(cores: Sequence[CpuSet], vcpus: int) -> int:
    """How many vCPUs are on each core, 1 where that is not the same for all."""
    sizes = {len(core) for core in cores}
    size = min(sizes)
    return size if len(sizes) == 1 and vcpus % size == 0 else 1


def _helpers(found: Topology, ours: CpuSet, wish: Wish) -> tuple[CpuSet, tuple[CpuSet, ...]]:
    """CPUs for the emulator and for each I/O thread, near to the VM's own. A core each as far
    as there are some; the host's first core is the last choice."""
    caches = [cache.cpus for cache in found.l3 if cache.cpus & ours]
    # A large cache (X3D) is for the guest alone.
    largest = max((cache.size for cache in found.l3 if cache.cpus & ours), default=0)
    keeps = any(cache.is_dwarfed(largest) for cache in found.l3)
    homes = [node for node in found.nodes if node.cpus & ours]

    def far(core: CpuSet) -> tuple[bool, int, bool, int]:
        distance = min(
            home.distances.get(node.number, 255)
            for home in homes
            for node in found.nodes
            if core & node.cpus
        )
        shared = any(core & cache for cache in caches)
        return core is found.cores[0], distance, shared is keeps, min(core)

    others = [core for core in found.cores if not core & ours]
    # Another VM may have been given all the rest, the host's first core included.
    cores = sorted([core for core in others if not core & wish.taken] or others, key=far)
    rest = cores[1:] or cores
    # The first core only helps out where there is no other.
    if len(rest) > 1 and found.cores[0] in rest:
        rest = [core for core in rest if core is not found.cores[0]]
    iothreads = tuple(rest[number % len(rest)] for number in range(wish.iothreads))
    return cores[0], iothreads


def _within(cores: Iterable[CpuSet], cpus: CpuSet) -> list[CpuSet]:
    return [core for core in cores if core <= cpus]


def _room(cores: Iterable[CpuSet]) -> int:
    return sum(map(len, cores))


def _too_many(found: Topology, wish: Wish, room: int) -> HookError:
    others = f", CPUs {format_list(wish.taken)} belong to other VMs" if wish.taken else ""
    hint = f"give it {room} vCPUs at most" if room else "this host has no core to spare for a VM"
    return HookError(
        f"{wish.vm} has {wish.vcpus} vCPUs, and only {room} CPUs are free for it: CPU "
        f"{format_list(found.cores[0])} belongs to the host{others}",
        hint + (", or share CPUs with the other VMs: --share" if wish.taken else ""),
    )
