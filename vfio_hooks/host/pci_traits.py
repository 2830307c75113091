"""What a person wants to know about a PCI function: its kind, link, resets, node and name.

https://docs.kernel.org/PCI/sysfs-pci.html and Documentation/ABI/testing/sysfs-bus-pci; names come
from the pci.ids of this machine, where it is installed (https://pci-ids.ucw.cz).
"""

from __future__ import annotations

import os
import re
from itertools import pairwise

from vfio_hooks.host import Host
from vfio_hooks.host.pci import ADDRESS, DEVICES
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PCI_IDS = ("/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids")
_KINDS = {
    "0104": "RAID",
    "0106": "SATA",
    "0107": "SAS",
    "0108": "NVMe",
    "0200": "Ethernet",
    "0207": "InfiniBand",
    "0280": "network",
    "0300": "VGA",
    "0302": "3D",
    "0380": "display",
    "0401": "audio",
    "0403": "audio",
    "0600": "host bridge",
    "0601": "ISA bridge",
    "0604": "PCI bridge",
    "0c03": "USB",
    "0c05": "SMBus",
}
_BASES = {
    "01": "storage",
    "02": "network",
    "03": "display",
    "04": "multimedia",
    "05": "memory",
    "06": "bridge",
    "07": "serial",
    "08": "system",
    "09": "input",
    "0c": "serial bus",
    "0d": "wireless",
    "10": "crypto",
    "11": "signals",
    "12": "accelerator",
}


@record
class Link:
    """A PCI Express link: gigatransfers a second (0 if unknown) and the number of lanes."""

    speed: float
    width: int

    def __str__(self) -> str:
        return f"{self.speed:g} GT/s x{self.width}"


@record
class Traits:
    """The traits of a function. `node` is None if the firmware names none. `link` is the negotiated
    link and `best` what the function could do; None for a function without a link. `resets` are the
    kernel's words, in the order in which it tries them; empty if it cannot be reset."""

    kind: str
    node: int | None
    link: Link | None
    best: Link | None
    resets: tuple[str, ...]
    boot_vga: bool

    @property
    def is_display(self) -> bool:
        return self.kind in ("VGA", "3D", "display")

    @property
    def is_slowed(self) -> bool:
        """Whether the link is narrower or slower than the function allows. An idle graphics card
        slows its link down, so only the width is certain."""
        if not self.link or not self.best:
            return False
        return self.link.width < self.best.width or self.link.speed < self.best.speed


def traits(host: Host, address: str) -> Traits:
    """What sysfs says about a function; what it does not say is left empty."""
    folder = f"{DEVICES}/{address}"
    code = (host.maybe(f"{folder}/class") or "").removeprefix("0x")
    node = host.maybe(f"{folder}/numa_node") or "-1"
    methods = host.maybe(f"{folder}/reset_method")
    if methods is None and host.exists(f"{folder}/reset"):
        methods = "yes"  # before Linux 5.15 the kernel does not say how
    return Traits(
        kind=_KINDS.get(code[:4]) or _BASES.get(code[:2]) or "device",
        node=int(node) if node.isdecimal() else None,
        link=_link(host, folder, "current"),
        best=_link(host, folder, "max"),
        resets=tuple((methods or "").split()),
        boot_vga=host.maybe(f"{folder}/boot_vga") == "1",
    )


@record
class Hop:
    """The link between a device or switch, `below`, and the port above it: the negotiated link, the
    `best` of the lower end, and that of the `port`."""

    below: str
    link: Link
    best: Link
    port: Link


def hops(host: Host, address: str) -> Iterator[Hop]:
    """The links from a card up to the processor. VFs, and all functions of a card but the first,
    have no link of their own, so there are none for these.

    A graphics card may have a switch on it, and always a perfect link to that. The link that counts
    is that of the switch.
    """
    if not address.endswith(".0") or host.exists(f"{DEVICES}/{address}/physfn"):
        return
    # sysfs nests a device's folder in that of the port above.
    path = os.path.realpath(host.path(f"{DEVICES}/{address}"))
    for below, above in pairwise(reversed(re.findall(ADDRESS, path))):
        lower, upper = traits(host, below), traits(host, above)
        if lower.link and lower.best and upper.best:
            yield Hop(below, lower.link, lower.best, upper.best)


def missing_lanes(host: Host, address: str) -> tuple[int, int] | None:
    """Of the links from a card up to the processor, the first that is narrower than both its ends
    allow: how many lanes it has, and how many it could have. None if there is no such link."""
    for hop in hops(host, address):
        could = min(hop.best.width, hop.port.width)
        if hop.link.width < could:
            return hop.link.width, could
    return None


def iommu_width(host: Host, address: str) -> int | None:
    """How many bits an address has that Intel's IOMMU translates for a function; None for another
    IOMMU. Bits 16 to 21 of its capabilities have the number less one (VT-d specification, MGAW)."""
    unit = host.link(f"{DEVICES}/{address}/iommu")
    text = host.maybe(f"/sys/class/iommu/{unit}/intel-iommu/cap") or ""
    return (int(text, 16) >> 16 & 0x3F) + 1 if re.fullmatch("[0-9a-f]+", text) else None


def names(ids: Iterable[str]) -> dict[str, str]:
    """The names of vendors and devices, by "1002:73bf", as far as this machine knows them."""
    wanted = set(ids)
    machine = Host()
    for path in _PCI_IDS:
        if text := machine.maybe(path):
            return _looked_up(text, wanted)
    return {}


def _looked_up(text: str, wanted: set[str]) -> dict[str, str]:
    """Look names up in the text of pci.ids. A vendor's line is not indented, those of its devices
    begin with one tab, those of subsystems with two."""
    vendors = {one.partition(":")[0] for one in wanted}
    found: dict[str, str] = {}
    vendor, name = "", ""
    for line in text.split("\n"):
        if line.startswith("C "):
            break
        if line[:1] not in ("\t", "#", ""):
            vendor, _, name = line.partition("  ")
        elif vendor in vendors and line.startswith("\t") and not line.startswith("\t\t"):
            device, _, title = line[1:].partition("  ")
            if f"{vendor}:{device}" in wanted:
                found[f"{vendor}:{device}"] = f"{_short(name)} {title.strip()}"
    return found


def _short(vendor: str) -> str:
    """What people call a vendor: "AMD" of "Advanced Micro Devices, Inc. [AMD/ATI]"."""
    if "[" in vendor:
        return vendor[vendor.index("[") + 1 :].partition("]")[0].partition("/")[0]
    return vendor.partition(",")[0].removesuffix(" Corporation").strip()


def _link(host: Host, folder: str, which: str) -> Link | None:
    """ "16.0 GT/s PCIe" and "16"; both are "Unknown" or 0 for a function without a link."""
    speed = (host.maybe(f"{folder}/{which}_link_speed") or "").partition(" ")[0]
    width = host.maybe(f"{folder}/{which}_link_width") or "0"
    try:
        link = Link(float(speed), int(width))
    except ValueError:
        return None
    return link if 0 < link.width < 255 else None
