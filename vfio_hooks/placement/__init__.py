"""Where a VM is: on which CPUs, nodes, caches and kinds of cores, near which devices and VMs.

Everything about placement is here. `check`, `topology`, `verify` and `init` all show what this
package finds wrong with a VM's place.
"""

from collections.abc import Callable, Iterable, Iterator

from vfio_hooks.placement import helpers, near, neighbours, own
from vfio_hooks.placement.kinds import KINDS, Fault
from vfio_hooks.placement.room import Room, room

__all__ = ("KINDS", "Fault", "Room", "faults", "room")
_RULES: tuple[Callable[[Room], Iterable[Fault]], ...] = (
    *own.RULES,
    *helpers.RULES,
    *near.RULES,
    *neighbours.RULES,
)


def faults(of: Room) -> Iterator[Fault]:
    """Everything that is wrong with a VM's place, worst first."""
    found = [fault for rule in _RULES for fault in rule(of)]
    order = list(KINDS)
    yield from sorted(found, key=lambda fault: order.index(fault.name))
