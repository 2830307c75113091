"""The PCI Express links of passed devices, from the card up to the processor."""

import os
import re
from collections.abc import Iterator
from itertools import pairwise

from vfio_hooks.check.domain.facts import Passed, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.host import Host
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.host.pci_traits import Link, traits

_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_SOURCE = "https://docs.kernel.org/PCI/sysfs-pci.html"


def _hops(patient: Patient, guest: Guest) -> Iterator[tuple[Passed, str, Link, Link, Link]]:
    """The links between each card and the processor: what the lower end has negotiated, what it
    could do, and what the port above it could do.

    A graphics card may have a switch of its own, and a perfect link to that; the one that
    counts is the switch's.
    """
    for device in passed(patient, guest):
        if device.is_virtual or not device.address.endswith(".0"):
            continue
        for below, above in pairwise(_way(patient.host, device.address)):
            lower, upper = traits(patient.host, below), traits(patient.host, above)
            if lower.link and lower.best and upper.best:
                yield device, below, lower.link, lower.best, upper.best


def _way(host: Host, address: str) -> list[str]:
    """The device, every switch above it, and the root port: sysfs nests their folders."""
    path = os.path.realpath(host.path(f"{DEVICES}/{address}"))
    return _ADDRESS.findall(path)[::-1]


@guest_rule(
    "link-width",
    "warning",
    why="Each lane that is missing takes its share of the card's bandwidth: dust in the slot, a "
    "riser cable, or a slot that shares its lanes with an SSD.",
    source=_SOURCE,
)
def width(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for device, below, link, best, port in _hops(patient, guest):
        could = min(best.width, port.width)
        if link.width < could:
            yield Seen(
                f"{device} has {link.width} of {could} lanes ({below})",
                f"put the card in again, look into the board's manual for what shares its lanes, "
                f"then: lspci -vv -s {below} | grep LnkSta",
            )


@guest_rule(
    "link-speed",
    "hint",
    why="Each PCI Express generation doubles the speed. A graphics card that idles slows its "
    "link down by itself; under load it has to be fast.",
    source=_SOURCE,
    sure="possible",
)
def speed(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for device, below, link, best, port in _hops(patient, guest):
        could = min(best.speed, port.speed)
        if 0 < link.speed < could:
            now = " while the guest runs" if guest.running else ""
            yield Seen(
                f"{device} has a link of {link.speed:g} GT/s of {could:g}{now} ({below})",
                "look again while the guest draws something; if it stays: the slot's generation "
                "in the firmware's setup (Auto, or the card's own)",
            )


@guest_rule(
    "link-slot",
    "hint",
    why="A card in a slot that is slower than itself cannot be fast; another slot may be.",
    source=_SOURCE,
)
def slot(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for device, below, _, best, port in _hops(patient, guest):
        if best.speed * best.width > port.speed * port.width > 0 and port.width:
            yield Seen(
                f"{device} could do {best}, and its slot {port} ({below})",
                "put it into a slot that the processor itself has (see the board's manual)",
            )


RULES = (width, speed, slot)
