"""What a VM shares with other VMs that may run at the same time."""

from collections.abc import Iterator
from shlex import quote

from vfio_hooks.domain import Domain
from vfio_hooks.placement.kinds import Fault
from vfio_hooks.placement.room import Room
from vfio_hooks.placement.wish import taken
from vfio_hooks.plural import numbered


def shares(room: Room) -> Iterator[Fault]:
    online, own = room.host.online, room.vm
    cpus, names = frozenset[int](), list[str]()
    for other in room.others:
        devices = sorted(_devices(own) & _devices(other))
        # VMs with the same device run one after the other, unless both start with the host.
        together = not devices or {own.name, other.name} <= room.starts
        common = taken([own], online) & taken([other], online)
        if devices and together:
            yield Fault(
                "vm-shares",
                f"{own.name} and {other.name} both start with the host, but both are given "
                f"{', '.join(devices)}",
                f"virsh autostart --disable {quote(other.name)}",
                devices=tuple(devices),
            )
        elif common and together:
            cpus, names = cpus | common, [*names, other.name]
    if cpus:
        yield Fault(
            "vm-shares",
            f"its vCPUs share {numbered('CPU', cpus)} with the vCPUs of {', '.join(names)}",
            f"if they should run at the same time: {room.init}",
            cpus=cpus,
        )


def _devices(domain: Domain) -> set[str]:
    return {function.address for function in domain.pci}


RULES = (shares,)
