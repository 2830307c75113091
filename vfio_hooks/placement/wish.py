"""What has to be placed for a domain, next to the domains that exist."""

from collections.abc import Iterable

from vfio_hooks.domain import Domain
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.record import record


@record
class Cell:
    """A NUMA node of the guest: its vCPUs, and the host's node to which its memory is bound, None
    if it is not bound to a single node."""

    number: int
    vcpus: CpuSet
    node: int | None


@record
class Wish:
    """What has to be placed. `node` is that of the VM's main `device`, None if it is not known.
    `taken` are the CPUs that other VMs have to themselves. `memory` is in KiB, 0 if it does not
    matter. `cells` are the guest's own NUMA nodes, if it has several."""

    vm: str
    vcpus: int
    iothreads: int = 0
    node: int | None = None
    device: str = "graphics card"
    taken: CpuSet = frozenset()
    memory: int = 0
    cells: tuple[Cell, ...] = ()


def taken(others: Iterable[Domain], running: CpuSet) -> CpuSet:
    """CPUs to which other domains' vCPUs are pinned. A pin to all CPUs, or to most, does not
    count."""
    pins = (cpus for other in others for cpus in other.vcpu_pins.values())
    return frozenset[int]().union(*(cpus for cpus in pins if len(cpus) * 2 <= len(running)))
