"""Facts that several rules need: what the guest is given, and which files QEMU can read."""

import os
from typing import TYPE_CHECKING

from vfio_hooks.check.rule import Guest, Patient
from vfio_hooks.domain import pci_functions
from vfio_hooks.domain.devices import number
from vfio_hooks.host import Host
from vfio_hooks.host.pci import DEVICES, card
from vfio_hooks.host.pci import function as host_function
from vfio_hooks.record import record

if TYPE_CHECKING:
    from lxml.etree import _Element

NVIDIA = "10de"


@record
class Slot:
    """Where the guest sees a device. Bus 0 is the root bus, others are those of <controller>s.
    `single`: it says itself that it is its slot's only function."""

    bus: int
    slot: int
    function: int
    single: bool


@record
class Passed:
    """A host PCI function that the guest sees as a device. `slot` is None if libvirt has yet
    to choose one; `kind` is the class that the host shows ("0x030000"), empty if it has no
    such function; `is_virtual` for one of an SR-IOV card."""

    address: str
    slot: Slot | None
    managed: bool
    kind: str
    vendor: str
    driver: str | None
    is_virtual: bool

    @property
    def is_gpu(self) -> bool:
        return self.kind.startswith("0x03")

    @property
    def has_outputs(self) -> bool:
        """Whether monitors can be on it: a "3D controller" is a graphics card without any, and
        so is a virtual function."""
        return self.is_gpu and not self.is_virtual and not self.kind.startswith("0x0302")

    @property
    def is_of_chipset(self) -> bool:
        return self.address[5:7] == "00"

    @property
    def card(self) -> str:
        return card(self.address)

    @property
    def path(self) -> str:
        """Where the XML has it, for an edit."""
        return f"devices/hostdev({self.address})"

    def __str__(self) -> str:
        return f"{'graphics card' if self.is_gpu else 'device'} {self.address}"


def passed(patient: Patient, guest: Guest) -> list[Passed]:
    """Every function that the guest is given as a PCI device, in the order of the XML."""
    return [
        _passed(patient.host, function.address, element, function.managed)
        for element, function in pci_functions(guest.xml)
        if function.origin != "disk"
    ]


def is_tuned(patient: Patient, guest: Guest) -> bool:
    """Whether small gains matter: the guest is given a graphics card, or a device and tuned CPUs or
    memory. They do not for a firewall, or for a file server with its own controller."""
    domain, devices = guest.domain, passed(patient, guest)
    # One that is not on this host may be a graphics card.
    has_card = any(one.is_gpu or not one.kind for one in devices)
    return has_card or bool(devices and (domain.vcpu_pins or domain.hugepages is not None))


def cards(devices: list[Passed]) -> list[list[Passed]]:
    """The functions of each graphics card that is given with function 0 and at least one other.

    Other cards' functions are independent: the ports of a network card, and the VFs of one. So
    are those of the chipset, which is on bus 00.
    """
    together: dict[str, list[Passed]] = {}
    for device in devices:
        if not (device.is_virtual or device.is_of_chipset):
            together.setdefault(device.card, []).append(device)
    return [
        sorted(card, key=lambda one: one.address)
        for card in together.values()
        if len(card) > 1
        and any(one.address.endswith(".0") for one in card)
        and any(one.is_gpu for one in card)
    ]


def _passed(host: Host, address: str, element: "_Element", managed: bool) -> Passed:
    found = host_function(host, address)
    return Passed(
        address=address,
        slot=slot(element),
        managed=managed,
        kind=found.device_class if found else "",
        vendor=found.ids.partition(":")[0] if found else "",
        driver=found.driver if found else None,
        is_virtual=host.exists(f"{DEVICES}/{address}/physfn"),
    )


def slot(element: "_Element") -> Slot | None:
    """A device's PCI address in the guest, None if it has none that can be read."""
    place = element.find("address[@type='pci']")
    if place is None:
        return None
    try:
        bus, slot, function = (number(place.get(part, "0")) for part in ("bus", "slot", "function"))
    except ValueError:
        return None
    return Slot(bus, slot, function, place.get("multifunction") == "off")


def whole(text: str | None, otherwise: int = 0) -> int:
    """A number that libvirt writes in decimal; `otherwise` if the text is no such number."""
    return int(text) if text and text.isascii() and text.isdecimal() else otherwise


def shows_files(host: Host) -> bool:
    """Whether the host has files beyond /sys and /proc. A captured host has not, so a file that the
    XML names is not reported as missing there."""
    return host.exists("/usr/share")


@record
class Closed:
    """A file, or a folder above it, that not everybody may use; `is_roots` where its owner and
    its group are root."""

    path: str
    is_roots: bool


def closed(host: Host, path: str) -> Closed | None:
    """What keeps some users from reading a file; None if everybody can read it. Raises OSError,
    also for a file that does not exist."""
    names = path.split("/")
    for depth in range(2, len(names) + 1):
        part = "/".join(names[:depth])
        found = os.stat(host.path(part))
        if not found.st_mode & (0o004 if part == path else 0o001):
            return Closed(part, found.st_uid == found.st_gid == 0)
    return None
