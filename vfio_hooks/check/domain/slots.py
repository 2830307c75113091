"""Where the guest sees passed devices: behind root ports, a card's functions together."""

from collections.abc import Iterator, Sequence

from vfio_hooks.check.domain.facts import Passed, cards, passed, slot, whole
from vfio_hooks.check.domain.kind import is_pcie, is_q35
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import pci_functions
from vfio_hooks.domain.editing import Edit, put
from vfio_hooks.host.pci import DEVICES

_BRIDGES = ("pcie-to-pci-bridge", "dmi-to-pci-bridge", "pci-bridge")


@guest_rule(
    "pci-root-bus",
    "warning",
    why="On the root bus QEMU shows a device as part of the chipset, without a link. The guest's "
    "driver sees no link speed, and runs the card slower.",
    source="forum: Increasing VFIO VGA Performance; QEMU's docs/pcie.txt",
)
def root_bus(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for device in _on_root(patient, guest):
        yield Seen(
            f"{device} is on the guest's root bus", edits=_moves(patient, guest)[device.address]
        )


@guest_rule(
    "pci-behind-bridge",
    "warning",
    why="Behind a bridge to conventional PCI, the guest sees the card as a PCI device without a "
    "link and without extended configuration space. Drivers run it slower or not at all.",
    source="QEMU's docs/pcie.txt",
)
def bridge(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # Functions of one group need the bridge if the guest has an IOMMU: see pci-viommu-group.
    if guest.xml.find("devices/iommu") is not None:
        return
    seen = set[str]()
    for device, model in _behind_bridges(patient, guest):
        if device.card not in seen:
            seen.add(device.card)
            yield Seen(
                f"{device} is behind a {model}", edits=_moves(patient, guest)[device.address]
            )


@guest_rule(
    "pci-viommu-group",
    "error",
    why="With an IOMMU in the guest, QEMU gives each PCI Express function an address space of its "
    "own, but all functions of a host's IOMMU group have to be in the same one. QEMU refuses the "
    "VM: 'group used in multiple address spaces', or with IOMMUFD: 'error attach'.",
    source="QEMU's hw/vfio/container.c, used in multiple address spaces; hw/pci/pci.c, "
    "pci_device_iommu_address_space; Linux, drivers/iommu/iommufd/device.c",
    sure="likely",
)
def viommu(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # Functions behind an accelerated SMMU of ARM share an address space.
    if guest.xml.find("devices/iommu") is None or not is_q35(guest):
        return
    bridged = {device.address for device, _ in _behind_bridges(patient, guest)}
    groups: dict[str, list[str]] = {}
    for device in passed(patient, guest):
        group = patient.host.link(f"{DEVICES}/{device.address}/iommu_group")
        if group is not None and device.address not in bridged:
            groups.setdefault(group, []).append(device.address)
    for group, members in groups.items():
        if len(members) > 1:
            yield Seen(
                f"{' and '.join(members)} are in the host's IOMMU group {group}, and the guest "
                "has an <iommu>",
                "remove <iommu>; for a guest that needs it, put them behind one pcie-to-pci-bridge",
            )


@guest_rule(
    "pci-viommu-caching",
    "error",
    why="QEMU can only map a guest's memory for passed devices if it hears of each change that the "
    "guest makes in its own IOMMU. It refuses the VM: 'We need to set caching-mode=on for "
    "intel-iommu to enable device assignment'.",
    source="https://libvirt.org/formatdomain.html#iommu-devices, caching_mode; QEMU's "
    "hw/i386/intel_iommu.c",
    sure="likely",
)
def caching(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find("devices/iommu[@model='intel']") is None or not passed(patient, guest):
        return
    if guest.xml.find("devices/iommu/driver[@caching_mode='on']") is None:
        yield Seen(
            "the guest has an <iommu> without caching mode, and passed devices",
            edits=(put("devices/iommu/driver", caching_mode="on"),),
        )


@guest_rule(
    "pci-functions-apart",
    "hint",
    why="The drivers of a graphics card look for its sound and USB functions in the same slot. "
    "Some do not use them if they are in another slot.",
    source="forum: Increasing VFIO VGA Performance",
    sure="possible",
)
def apart(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # The fix for these also brings their functions together.
    moved = [*_on_root(patient, guest), *(one for one, _ in _behind_bridges(patient, guest))]
    for card in cards([one for one in passed(patient, guest) if not _is_with(one, moved)]):
        slots = [device.slot for device in card]
        places = {(place.bus, place.slot) for place in slots if place}
        if len(places) > 1 or (None in slots and any(slots)):
            text = f"the functions of {card[0]} are in {max(len(places), 2)} slots of the guest"
            if is_pcie(guest):
                yield Seen(text, edits=_moves(patient, guest)[card[0].address])
            else:
                yield Seen(text, "one bus and slot for all of them")


@guest_rule(
    "pci-multifunction",
    "error",
    why="With multifunction='off' on function 0, QEMU refuses other functions in its slot. Where "
    "nothing is said, libvirt switches it on for function 0 of a slot that has others.",
    source="https://libvirt.org/formatdomain.html#device-addresses; tried with libvirt 11.3 and "
    "QEMU 10.0",
)
def multifunction(patient: Patient, guest: Guest) -> Iterator[Seen]:
    devices = [(device, device.slot) for device in passed(patient, guest)]
    for device, place in devices:
        if place is None or place.function or not place.single:
            continue
        others = [
            other
            for other, where in devices
            if where and (where.bus, where.slot) == (place.bus, place.slot) and other is not device
        ]
        if others:
            yield Seen(
                f"{others[0]} is in the slot of {device}, which has multifunction='off'",
                edits=(put(f"{device.path}/address", multifunction="on"),),
            )


@guest_rule(
    "pci-no-function-0",
    "error",
    why="A guest that finds no function 0 in a slot does not look for other functions there.",
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
                edits=(put(f"{device.path}/address", function="0x0"),),
            )


def _on_root(patient: Patient, guest: Guest) -> list[Passed]:
    """The graphics cards that are on the root bus of a guest with PCI Express."""
    # What is part of the chipset on the host has no link there either, and a graphics unit of
    # Intel's even has to be at 00:02.0.
    return [
        device
        for device in (passed(patient, guest) if is_pcie(guest) else ())
        if device.is_gpu and device.slot and not device.slot.bus and not device.is_of_chipset
    ]


def _behind_bridges(patient: Patient, guest: Guest) -> list[tuple[Passed, str]]:
    """The devices behind a bridge to conventional PCI, each with the bridge's model."""
    buses = {
        whole(one.get("index")): one.get("model", "")
        for one in guest.xml.iterfind("devices/controller[@type='pci']")
        if one.get("model") in _BRIDGES
    }
    return [
        (device, buses[device.slot.bus])
        for device in (passed(patient, guest) if is_pcie(guest) else ())
        if device.slot and device.slot.bus in buses
    ]


def _is_with(device: Passed, others: Sequence[Passed]) -> bool:
    """Whether a device is a function of the same card as one of the others."""
    return any(device.card == other.card for other in others)


def _moves(patient: Patient, guest: Guest) -> dict[str, tuple[Edit, ...]]:
    """For the address of each passed device the edits that put its card into one slot behind a
    root port of its own. Each card gets another port, so that all may be moved at once."""
    devices = passed(patient, guest)
    moved: dict[str, tuple[Edit, ...]] = {}
    taken = set[int]()
    for device in devices:
        if device.address in moved:
            continue
        card = next((card for card in cards(devices) if device in card), [device])
        port, new = _own_port(guest, card, taken)
        taken.add(port)
        edits = tuple(new) + tuple(_placed(one, port, len(card) > 1) for one in card)
        moved |= dict.fromkeys((one.address for one in card), edits)
    return moved


def _placed(device: Passed, port: int, is_one_of_many: bool) -> Edit:
    function = device.address[-1] if is_one_of_many else "0"
    place: dict[str, str | None] = {
        "type": "pci",
        "domain": "0x0000",
        "bus": f"0x{port:02x}",
        "slot": "0x00",
        "function": f"0x{function}",
    }
    if function == "0" and is_one_of_many:
        place["multifunction"] = "on"
    return Edit(f"{device.path}/address", place, only=True)


def _own_port(guest: Guest, card: Sequence[Passed], taken: set[int]) -> tuple[int, list[Edit]]:
    """The number of a root port that nothing else is behind, and the edit that makes one where
    there is none."""
    addresses = {device.address for device in card}
    own = [one for one, function in pci_functions(guest.xml) if function.address in addresses]
    others = (one for one in guest.xml.iterfind("devices/*") if one not in own)
    used = {place.bus for one in others if (place := slot(one))} | taken
    ports = list(guest.xml.iterfind("devices/controller[@type='pci']"))
    # First the one that function 0 is behind already: the guest then finds it where it was.
    now = card[0].slot
    ports.sort(key=lambda port: now is None or whole(port.get("index")) != now.bus)
    for port in ports:
        index = whole(port.get("index"))
        if port.get("model") == "pcie-root-port" and index not in used:
            return index, []
    index = 1 + max((whole(port.get("index")) for port in ports), default=0)
    index = max(index, 1 + max(used, default=0))
    path = f"devices/controller[@type='pci'][@index='{index}']"
    return index, [put(path, model="pcie-root-port")]


RULES = (function_0, multifunction, viommu, caching, bridge, root_bus, apart)
