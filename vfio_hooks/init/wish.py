"""What is to be placed of a domain, beside the domains that there are."""

from collections.abc import Iterable
from dataclasses import dataclass

from vfio_hooks.domain import Domain
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.pci_traits import traits


@dataclass(frozen=True)
class Wish:
    """What is to be placed. `node` is that of the VM's graphics card, None where that is not
    known; `taken` are the CPUs that other VMs have to themselves; `memory` is in KiB, 0 where
    that does not matter."""

    vm: str
    vcpus: int
    iothreads: int = 0
    node: int | None = None
    taken: CpuSet = frozenset()
    memory: int = 0


def wish(domain: Domain, iothreads: int, others: Iterable[Domain], host: Host) -> Wish:
    """Raises HookError for a host that shows no CPU."""
    return Wish(
        vm=domain.name,
        vcpus=domain.vcpus,
        memory=domain.memory,
        iothreads=iothreads,
        node=_home(domain, host),
        taken=taken(others, online(host)),
    )


def taken(others: Iterable[Domain], running: CpuSet) -> CpuSet:
    """CPUs that other domains' vCPUs are pinned to. A pin to all CPUs, or to most, is none."""
    pins = (cpus for other in others for cpus in other.vcpu_pins.values())
    return frozenset[int]().union(*(cpus for cpus in pins if len(cpus) * 2 <= len(running)))


def _home(domain: Domain, host: Host) -> int | None:
    """The node of a VM's graphics card, else of the first device that tells one."""
    seen = [traits(host, one.address) for one in domain.pci]
    seen.sort(key=lambda one: not one.is_display)
    return next((one.node for one in seen if one.node is not None), None)
