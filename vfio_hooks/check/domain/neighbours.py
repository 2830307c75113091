"""What other VMs have as well, that may run at the same time."""

from collections.abc import Iterator
from shlex import quote

from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.init.wish import taken

_AUTOSTART = "/etc/libvirt/qemu/autostart"


@guest_rule(
    "vm-shares",
    "hint",
    why="VMs that run at once wait for each other on a CPU of both; with a device of both, the "
    "second one does not start.",
    source="cpu-tuning",
    sure="possible",
)
def shares(patient: Patient, guest: Guest) -> Iterator[Seen]:
    online, own = patient.topology.online, guest.domain
    cpus, names = frozenset[int](), list[str]()
    for other in patient.others:
        devices = _devices(own) & _devices(other)
        together = not devices or _start_together(patient.host, own, other)
        common = taken([own], online) & taken([other], online)
        if devices and together:
            yield Seen(
                f"{own.name} and {other.name} both start with the host, and both are given "
                f"{', '.join(sorted(devices))}",
                f"virsh autostart --disable {quote(other.name)}",
            )
        elif common and together:
            cpus, names = cpus | common, [*names, other.name]
    if cpus:
        yield Seen(
            f"CPU {format_list(cpus)} of its vCPUs {'is' if len(cpus) == 1 else 'are'} also for "
            f"the vCPUs of {', '.join(names)}",
            f"if they are to run at once: sudo vfio-hooks init {quote(own.name)} --pins",
        )


def _devices(domain: Domain) -> set[str]:
    return {function.address for function in domain.pci}


def _start_together(host: Host, *domains: Domain) -> bool:
    return {f"{domain.name}.xml" for domain in domains} <= set(host.names(_AUTOSTART))


RULES = (shares,)
