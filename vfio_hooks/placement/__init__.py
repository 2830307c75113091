"""Where a VM is: which CPUs, nodes, caches and kinds of cores, beside which devices and VMs.

This is the one room for placement. What is wrong with a VM's place is found here, once; `check`,
`topology`, `verify` and `init` show it.
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
    """All that is wrong with a VM's place, worst first."""
    found = [fault for rule in _RULES for fault in rule(of)]
    order = list(KINDS)
    yield from sorted(found, key=lambda fault: order.index(fault.name))
