"""Where the guest sees passed devices: behind root ports, a card's functions together."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import Passed, cards, is_pcie, passed, slot, whole
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import pci_functions
from vfio_hooks.domain.editing import Fix, add, reach

if TYPE_CHECKING:
    from lxml.etree import _Element


@guest_rule(
    "pci-root-bus",
    "warning",
    why="On the root bus QEMU shows a device as part of the chipset, which has no link: the "
    "guest's driver sees no link speed, and runs the card slower.",
    source="forum: Increasing VFIO VGA Performance",
)
def root_bus(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_pcie(guest):
        return
    moved: set[str] = set()
    devices = passed(patient, guest)
    for device in devices:
        if device.slot is None or device.slot.bus or device.card in moved:
            continue
        # What is part of the chipset on the host has no link there either, and a graphics unit of
        # Intel's even has to be at 00:02.0.
        if device.is_of_chipset:
            continue
        together = next((card for card in cards(devices) if device in card), [device])
        if len(together) > 1:
            moved.add(device.card)
        yield Seen(
            f"{device} is on the guest's root bus",
            "<controller type='pci' model='pcie-root-port' index='N'/>, N the first free one, and "
            f"in the <hostdev> of {device.address}: <address type='pci' bus='N' slot='0x00' "
            "function='0x0'/>",
            behind_port(together),
        )


@guest_rule(
    "pci-functions-apart",
    "warning",
    why="The drivers of a graphics card look for its sound and USB functions beside it, in the "
    "same slot; some refuse to work, and resets fail, where these are cards of their own.",
    source="forum: Increasing VFIO VGA Performance",
    sure="likely",
)
def apart(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for card in cards(passed(patient, guest)):
        slots = [device.slot for device in card]
        places = {(place.bus, place.slot) for place in slots if place}
        if len(places) > 1 or (None in slots and any(slots)):
            yield Seen(
                f"the functions of {card[0]} are in {max(len(places), 2)} slots of the guest",
                "the same bus and slot for all: "
                + " ".join(
                    f"<address type='pci' bus='N' slot='0x00' function='0x{device.address[-1]}'"
                    f"{_MULTI if device is card[0] else ''}/>"
                    for device in card
                ),
                behind_port(card) if is_pcie(guest) else None,
            )


_MULTI = " multifunction='on'"


@guest_rule(
    "pci-multifunction",
    "error",
    why="Without multifunction='on' on function 0, a slot has no other functions.",
    source="device-addresses",
    sure="likely",
)
def multifunction(patient: Patient, guest: Guest) -> Iterator[Seen]:
    devices = [(device, device.slot) for device in passed(patient, guest)]
    for device, place in devices:
        if place is None or place.function or place.multifunction:
            continue
        others = [
            other
            for other, where in devices
            if where and (where.bus, where.slot) == (place.bus, place.slot) and other is not device
        ]
        if others:
            yield Seen(
                f"{others[0]} is in the slot of {device}, which has not multifunction='on'",
                f"in the <hostdev> of {device.address}: <address … function='0x0'{_MULTI}/>",
                _placed(device.address, "multifunction", "on"),
            )


@guest_rule(
    "pci-no-function-0",
    "error",
    why="A guest that finds no function 0 in a slot does not look for others there.",
    source="https://docs.kernel.org/PCI/pci.html",
)
def function_0(patient: Patient, guest: Guest) -> Iterator[Seen]:
    taken = {
        (place.bus, place.slot)
        for place in map(slot, guest.xml.iterfind("devices/*"))
        if place and not place.function
    }
    for device in passed(patient, guest):
        place = device.slot
        if place and place.function and (place.bus, place.slot) not in taken:
            taken.add((place.bus, place.slot))
            yield Seen(
                f"{device} is function {place.function} of a slot that has no function 0",
                f"in the <hostdev> of {device.address}: <address … function='0x0'/>",
                _placed(device.address, "function", "0x0"),
            )


def behind_port(card: Sequence[Passed]) -> Fix:
    """A fix that puts functions of one card into one slot behind a root port of their own."""
    addresses = [device.address for device in card]

    def fix(root: "_Element") -> None:
        given = _given(root)
        elements = [given[address] for address in addresses if address in given]
        if len(elements) != len(addresses):
            return
        port = _own_port(root, elements)
        for address, element in zip(addresses, elements, strict=True):
            place = reach(element, "address")
            place.attrib.clear()
            function = address[-1] if len(addresses) > 1 else "0"
            for name, value in (
                ("type", "pci"),
                ("domain", "0x0000"),
                ("bus", f"0x{port:02x}"),
                ("slot", "0x00"),
                ("function", f"0x{function}"),
            ):
                place.set(name, value)
            if function == "0" and len(addresses) > 1:
                place.set("multifunction", "on")

    return fix


def _given(root: "_Element") -> "dict[str, _Element]":
    """The elements of passed functions by their address on the host."""
    return {function.address: element for element, function in pci_functions(root)}


def _own_port(root: "_Element", elements: Sequence["_Element"]) -> int:
    """The number of a root port that nothing else is behind; a new one where there is none."""
    devices = reach(root, "devices")
    used = {
        place.bus
        for device in devices.iterfind("*")
        if device not in elements and (place := slot(device))
    }
    ports = list(devices.iterfind("controller[@type='pci']"))
    # First the one that function 0 is behind already: the guest then finds it where it was.
    place = slot(elements[0])
    ports.sort(key=lambda port: place is None or whole(port.get("index")) != place.bus)
    for port in ports:
        index = whole(port.get("index"))
        if port.get("model") == "pcie-root-port" and index not in used:
            return index
    index = 1 + max((whole(port.get("index")) for port in ports), default=0)
    index = max(index, 1 + max(used, default=0))
    new = add(devices, "controller")
    for name, value in (("type", "pci"), ("index", str(index)), ("model", "pcie-root-port")):
        new.set(name, value)
    return index


def _placed(address: str, name: str, value: str) -> Fix:
    def fix(root: "_Element") -> None:
        element = _given(root).get(address)
        if element is not None:
            reach(element, "address").set(name, value)

    return fix


RULES = (root_bus, apart, multifunction, function_0)
