"""What is to be placed of a domain, beside the domains that there are."""

from collections.abc import Iterable

from vfio_hooks.domain import Domain
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.record import record


@record
class Cell:
    """A NUMA node of the guest's: its vCPUs, and the host's node that its memory is bound to, None
    where that is not one node."""

    number: int
    vcpus: CpuSet
    node: int | None


@record
class Wish:
    """What is to be placed. `node` is that of the VM's main `device`, None if that is not
    known; `taken` are the CPUs that other VMs have to themselves; `memory` is in KiB, 0 where
    that does not matter. `cells` are the guest's own NUMA nodes, if it has several."""

    vm: str
    vcpus: int
    iothreads: int = 0
    node: int | None = None
    device: str = "graphics card"
    taken: CpuSet = frozenset()
    memory: int = 0
    cells: tuple[Cell, ...] = ()


def taken(others: Iterable[Domain], running: CpuSet) -> CpuSet:
    """CPUs that other domains' vCPUs are pinned to. A pin to all CPUs, or to most, is none."""
    pins = (cpus for other in others for cpus in other.vcpu_pins.values())
    return frozenset[int]().union(*(cpus for cpus in pins if len(cpus) * 2 <= len(running)))
