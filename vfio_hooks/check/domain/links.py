"""The PCI Express links of passed devices, from the card up to the processor."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import Passed, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.host.pci_traits import Hop, hops

_SOURCE = "https://docs.kernel.org/PCI/sysfs-pci.html"


def _hops(patient: Patient, guest: Guest) -> Iterator[tuple[Passed, Hop]]:
    for device in passed(patient, guest):
        for hop in hops(patient.host, device.address):
            yield device, hop


@guest_rule(
    "link-width",
    "warning",
    why="Each missing lane costs its share of the card's bandwidth. Causes are dust in the slot, "
    "a riser cable, or a slot that shares its lanes with an SSD.",
    source=_SOURCE,
)
def width(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for device, hop in _hops(patient, guest):
        could = min(hop.best.width, hop.port.width)
        if hop.link.width < could:
            yield Seen(
                f"{device} has {hop.link.width} of {could} lanes ({hop.below})",
                f"take the card out and put it back, and look into the board's manual for "
                f"devices that share its lanes; then: lspci -vv -s {hop.below} | grep LnkSta",
            )


@guest_rule(
    "link-speed",
    "hint",
    why="Each PCI Express generation doubles the speed. An idle graphics card slows its link "
    "down by itself; under load the link should be fast.",
    source=_SOURCE,
    sure="possible",
)
def speed(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # The link of an idle card says nothing.
    for device, hop in _hops(patient, guest) if guest.running else ():
        could = min(hop.best.speed, hop.port.speed)
        if 0 < hop.link.speed < could:
            yield Seen(
                f"{device} has a link of {hop.link.speed:g} GT/s of {could:g} while the guest "
                f"runs ({hop.below})",
                "look again while the guest draws something; if it stays slow, set the slot's "
                "generation in the firmware's setup (Auto, or the card's own)",
            )


@guest_rule(
    "link-slot",
    "hint",
    why="A card cannot be fast in a slot with fewer lanes than it has. Another slot may have more.",
    source=_SOURCE,
)
def slot(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for device, hop in _hops(patient, guest):
        if 0 < hop.port.width < hop.best.width and hop.port.speed <= hop.best.speed:
            yield Seen(
                f"{device} supports {hop.best}, but its slot only {hop.port} ({hop.below})",
                "put it into a slot that is connected to the processor (see the board's manual)",
            )


RULES = (width, speed, slot)
