"""Which of the host's CPUs a domain has to itself, for every plugin that keeps others off them."""

from shlex import quote
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import CpuSet, format_list

Pin = Literal["emulatorpin", "iothreadpin"]
SAID = "which CPUs, <vcpupin> in the VM's XML says: vfio-hooks init VM --pins writes it"


def own_cpus(plugin: str, domain: Domain, also: tuple[Pin, ...], host: Host) -> CpuSet:
    """The CPUs that the domain's vCPUs are pinned to, and those of the threads named by `also`.

    Raises HookError for a domain that pins none, and for one that leaves the host none.
    """
    cpus = domain.pinned
    if not cpus:
        raise HookError(
            f"{plugin}: domain {domain.name} pins no vCPU, so it has no CPUs to itself",
            f"sudo vfio-hooks init {quote(domain.name)} --pins chooses CPUs for them",
        )
    if "emulatorpin" in also:
        cpus |= domain.emulator_pin or frozenset()
    if "iothreadpin" in also:
        cpus = cpus.union(*domain.iothread_pins.values())
    running = online(host)
    if not running - cpus:
        raise HookError(
            f"{plugin}: domain {domain.name} pins CPUs {format_list(cpus & running)}, which are "
            "all that this host has running",
            "leave it one core at least: change <vcpupin> in <cputune>",
        )
    return cpus
