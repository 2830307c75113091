"""What a VM would gain from fewer vCPUs: cores of the fastest kind alone, or the large cache."""

from collections.abc import Iterator, Sequence

from vfio_hooks.host.cpu import Topology
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.memory import amount
from vfio_hooks.placement.cores import cache_of, count, within
from vfio_hooks.placement.wish import Wish
from vfio_hooks.plural import counted
from vfio_hooks.record import record


@record
class Fewer:
    """A place for fewer vCPUs: `vcpus` of them, `threads` on each core, would fit on `cpus`, which
    are `what`: "the performance cores"."""

    vcpus: int
    threads: int
    cpus: CpuSet
    what: str

    def __str__(self) -> str:
        return f"{counted(self.vcpus, 'vCPU')} would fit on {self.what}"


def fewer(
    found: Topology, free: Sequence[CpuSet], chosen: Sequence[CpuSet], wish: Wish
) -> Iterator[Fewer]:
    """Places that would be better than the `chosen` ones of the `free` cores, but are too small."""
    ours = frozenset[int]().union(*chosen)
    for node in found.nodes:
        cores = (
            within(free, node.cpus) if node.number == wish.node and not ours <= node.cpus else []
        )
        # If the vCPUs would fit there, there is too little memory.
        if 0 < count(cores) < count(chosen):
            yield _of(cores, node.cpus, f"node {node.number}, where its {wish.device} is")
    for kind, cpus in found.kinds.items():
        if not ours <= cpus and (cores := within(free, cpus)):
            yield _of(cores, cpus, f"the {kind} cores alone")
        # The first kind is the fastest.
        break
    smallest = min((cache_of(found, core) for core in chosen), key=lambda cache: cache.size)
    large = [cache for cache in found.l3 if smallest.is_dwarfed(cache.size)]
    best = max(large, key=lambda cache: count(within(free, cache.cpus)), default=None)
    if best and (cores := within(free, best.cpus)):
        what = f"the larger L3 cache ({amount(best.size)}), from which games gain more"
        yield _of(cores, best.cpus, what)


def _of(cores: Sequence[CpuSet], cpus: CpuSet, what: str) -> Fewer:
    sizes = set(map(len, cores))
    return Fewer(count(cores), sizes.pop() if len(sizes) == 1 else 1, cpus, what)
