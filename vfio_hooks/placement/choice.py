"""Which CPUs a VM should be pinned to: whole cores, near to its devices, and none of the host's.

The choice depends only on the topology and on what other VMs have. These make a place good, in this
order: one NUMA node, with room for the VM's memory, and the one of its graphics card; one level 3
cache, a large one if sizes differ, otherwise the fullest that still fits; cores far from CPU 0. The
core of CPU 0 always belongs to the host, because the kernel's own work is there, and its cache is
the last choice.
"""

from collections.abc import Sequence

from vfio_hooks.errors import HookError
from vfio_hooks.host.cpu import NODES, Topology
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.placement.cores import choose as choose_cores
from vfio_hooks.placement.cores import count
from vfio_hooks.placement.fewer import Fewer, fewer
from vfio_hooks.placement.nodes import choose as choose_nodes
from vfio_hooks.placement.wish import Cell, Wish
from vfio_hooks.plural import counted, numbered, verb
from vfio_hooks.record import record, replace


@record
class Placement:
    """A CPU for each vCPU, in their order; `threads` vCPUs share each core, which the guest should
    know. The emulator's threads and each I/O thread have CPUs of the host. `nodes` are the nodes of
    the vCPUs, `reasons` sentences that explain the choice, and `fewer` says what fewer vCPUs would
    gain."""

    vcpus: tuple[int, ...]
    threads: int
    emulator: CpuSet
    iothreads: tuple[CpuSet, ...]
    nodes: tuple[int, ...]
    reasons: tuple[str, ...]
    fewer: tuple[Fewer, ...] = ()


def place(found: Topology, wish: Wish) -> Placement:
    """Choose CPUs for a VM. Raises HookError if the vCPUs do not fit."""
    if wish.cells:
        return _by_cell(found, wish)
    if found.online != frozenset[int]().union(*(node.cpus for node in found.nodes)):
        raise HookError(
            f"{NODES}: some CPUs are not on any node", "is this the whole /sys of a host?"
        )
    there = _free(found, wish)
    first = found.cores[0]
    reasons = [f"{numbered('CPU', first)} {verb(len(first), 'stays', 'stay')} with the host"]
    free = _fastest(found, there, wish, reasons)
    if count(free) < wish.vcpus or wish.vcpus < 1:
        raise _too_many(found, wish, count(free))
    nodes = choose_nodes(found, free, wish, reasons)
    cores = choose_cores(found, free, nodes, wish.vcpus, reasons)
    threads = _threads(cores, wish.vcpus)
    vcpus = tuple(cpu for core in cores for cpu in sorted(core))[: wish.vcpus]
    if found.cores != tuple(frozenset({cpu}) for cpu in sorted(found.online)):
        reasons.append(
            f"they fill {counted(len(cores), 'whole core')}, so nothing else runs on an SMT sibling"
        )
    if wish.taken:
        reasons.append(_others(wish))
    emulator, iothreads = _helpers(found, frozenset[int]().union(*cores), wish)
    if wish.iothreads:
        reasons.append("the emulator and I/O threads are on the host's CPUs nearest to them")
    else:
        reasons.append("the emulator's threads are on the host's CPUs nearest to them")
    numbers = tuple(sorted(node.number for node in nodes if node.cpus & frozenset(vcpus)))
    better = tuple(fewer(found, there, cores, wish))
    return Placement(vcpus, threads, emulator, iothreads, numbers, tuple(reasons), better)


def _by_cell(found: Topology, wish: Wish) -> Placement:
    """The placement of a guest with NUMA nodes: each on the host's node that has its memory."""
    parts, chosen, ours = list[Placement](), dict[int, int](), frozenset[int]()
    for cell in wish.cells:
        alone = replace(
            wish,
            vcpus=len(cell.vcpus),
            node=cell.node,
            memory=0,
            taken=wish.taken | ours,
            cells=(),
        )
        part = place(found, alone)
        if cell.node is None or part.nodes != (cell.node,):
            raise _homeless(wish, cell)
        parts.append(part)
        chosen.update(zip(sorted(cell.vcpus), part.vcpus, strict=True))
        ours |= found.siblings(part.vcpus)
    emulator, iothreads = _helpers(found, ours, wish)
    homes = ", ".join(f"{cell.number} on node {cell.node}" for cell in wish.cells)
    return Placement(
        vcpus=tuple(chosen[vcpu] for vcpu in sorted(chosen)),
        threads=min(part.threads for part in parts),
        emulator=emulator,
        iothreads=iothreads,
        nodes=tuple(sorted({number for part in parts for number in part.nodes})),
        reasons=(f"each of the guest's nodes is where its memory is: {homes}",),
    )


def _homeless(wish: Wish, cell: Cell) -> HookError:
    if cell.node is None:
        return HookError(
            f"the memory of {wish.vm}'s own NUMA node {cell.number} is not bound to one node of "
            f"this host",
            f"<numatune><memnode cellid='{cell.number}' mode='strict' nodeset='N'/></numatune>, "
            "or pin the vCPUs by hand",
        )
    return HookError(
        f"{wish.vm}'s own NUMA node {cell.number} has {counted(len(cell.vcpus), 'vCPU')}, but its "
        f"memory is on node {cell.node} of this host, which has too few free CPUs for them",
        "give it fewer vCPUs, or bind its memory to another node",
    )


def _free(found: Topology, wish: Wish) -> list[CpuSet]:
    """The cores that a VM may have: not the one of the host's first CPU, and none of other VMs."""
    return [core for core in found.cores[1:] if not core & wish.taken]


def _fastest(found: Topology, free: list[CpuSet], wish: Wish, reasons: list[str]) -> list[CpuSet]:
    """Cores of one kind only, the fastest with enough of them: with different vCPUs, a guest waits
    for the slow ones."""
    alike = {kind: [core for core in free if core <= cpus] for kind, cpus in found.kinds.items()}
    for kind, cores in alike.items():
        if count(cores) >= wish.vcpus:
            reasons.append(f"all are {kind} cores")
            return cores
    if alike:
        reasons.append("there are not enough cores of one kind, so the vCPUs are on several kinds")
    return free


def _threads(cores: Sequence[CpuSet], vcpus: int) -> int:
    """How many vCPUs are on each core; 1 if it is not the same number for all."""
    sizes = {len(core) for core in cores}
    size = min(sizes)
    return size if len(sizes) == 1 and vcpus % size == 0 else 1


def _helpers(found: Topology, ours: CpuSet, wish: Wish) -> tuple[CpuSet, tuple[CpuSet, ...]]:
    """CPUs for the emulator and for each I/O thread, near the VM's own. Each gets a core as long as
    there are some; the host's first core is the last choice."""
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
    # Another VM may have been given all other cores, including the host's first one.
    cores = sorted([core for core in others if not core & wish.taken] or others, key=far)
    rest = cores[1:] or cores
    # The first core is only used if there is no other.
    if len(rest) > 1 and found.cores[0] in rest:
        rest = [core for core in rest if core is not found.cores[0]]
    iothreads = tuple(rest[number % len(rest)] for number in range(wish.iothreads))
    return cores[0], iothreads


def _too_many(found: Topology, wish: Wish, room: int) -> HookError:
    first = found.cores[0]
    others = f", {_others(wish)}" if wish.taken else ""
    hint = "this host has no core to spare for a VM"
    if room:
        hint = f"give it at most {counted(room, 'vCPU')}"
    return HookError(
        f"{wish.vm} has {counted(wish.vcpus, 'vCPU')}, and only {counted(room, 'CPU')} "
        f"{verb(room)} free for it: {numbered('CPU', first)} "
        f"{verb(len(first), 'belongs', 'belong')} to the host{others}",
        hint + (", or share CPUs with the other VMs: --share" if wish.taken else ""),
    )


def _others(wish: Wish) -> str:
    belong = verb(len(wish.taken), "belongs", "belong")
    return f"{numbered('CPU', wish.taken)} {belong} to other VMs"
