"""Which of the host's CPUs a domain has to itself, for every plugin that keeps others off them."""

from collections.abc import Iterable
from shlex import quote
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import CpuSet, format_list

Pin = Literal["emulatorpin", "iothreadpin"]
SAID = "<vcpupin> in the VM's XML says which CPUs; vfio-hooks init VM --pins writes it"


def kept(domain: Domain, running: CpuSet) -> CpuSet:
    """The CPUs that vCPUs are pinned to. A pin to every CPU does not count."""
    return _narrow(domain.vcpu_pins.values(), running)


def own_cpus(domain: Domain, also: tuple[Pin, ...], host: Host) -> CpuSet:
    """The CPUs that the domain's vCPUs are pinned to, and those of the threads named by `also`.

    Raises HookError for a domain that pins none, and for one that leaves the host none.
    """
    if not domain.pinned:
        raise HookError(
            f"domain {domain.name} pins no vCPU, so it has no CPUs to itself",
            f"sudo vfio-hooks init {quote(domain.name)} --pins chooses CPUs for them",
        )
    running = online(host)
    cpus = kept(domain, running) or domain.pinned
    if "emulatorpin" in also:
        cpus |= _narrow([domain.emulator_pin or frozenset()], running)
    if "iothreadpin" in also:
        cpus |= _narrow(domain.iothread_pins.values(), running)
    if not running - cpus:
        raise HookError(
            f"domain {domain.name} pins CPUs {format_list(cpus & running)}, which are "
            f"all CPUs of this host that are online",
            "leave the host at least one core: change <vcpupin> in <cputune>, or <vcpu cpuset=>",
        )
    return cpus


def _narrow(pins: Iterable[CpuSet], running: CpuSet) -> CpuSet:
    return frozenset[int]().union(*(pin for pin in pins if not pin >= running))
