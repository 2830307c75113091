"""The programs that have a passed graphics card open now, and how each lets go of it."""

from collections.abc import Iterator

from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.host.desktops import rungs
from vfio_hooks.host.pci import passed_displays

# The tables that take care of each rung (host/freeing.py).
_TAKEN_CARE_OF = {1: ("display", "session"), 2: ("session",), 3: ("session",), 4: ("service",)}


@guest_rule(
    "card-in-use",
    "hint",
    why="A card can be given to a VM only when no program has it open. Desktops differ in how "
    "they let go of a card: most close it when udev announces that it has gone, some must "
    "never open it, and with nvidia's driver some keep it until they end.",
    source="vfio-hooks.toml(5), [display] and [session]",
)
def in_use(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.running:
        return
    for card in passed_displays(patient.host, guest.domain):
        for rung in rungs(patient.host, card.address):
            if not any(name in patient.tables for name in _TAKEN_CARE_OF[rung.number]):
                advice = rung.advice(guest.domain.name)
                yield Seen(f"{card.address}: {rung.holder}", advice)


RULES = (in_use,)
