"""What a person wants to know of a PCI function: its kind, link, resets, node and name.

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
    """A PCI Express link: gigatransfers a second (0 where unknown) and the number of lanes."""

    speed: float
    width: int

    def __str__(self) -> str:
        return f"{self.speed:g} GT/s x{self.width}"


@record
class Traits:
    """`node` is None where the firmware names none. `link` is what was negotiated and `best`
    what the function could do; None for one that has no link. `resets` are the kernel's words,
    in the order in which it tries them; empty for a function that cannot be reset."""

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
        """Whether the link is less than the function can do. A graphics card that idles slows
        its link down, so that only the width tells for sure."""
        if not self.link or not self.best:
            return False
        return self.link.width < self.best.width or self.link.speed < self.best.speed


def traits(host: Host, address: str) -> Traits:
    """What sysfs has on a function; what is not there is left empty."""
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
    """The link between a device or switch, `below`, and the port above it: what it has negotiated,
    what the lower end could do, and what the port could."""

    below: str
    link: Link
    best: Link
    port: Link


def hops(host: Host, address: str) -> Iterator[Hop]:
    """The links from a card up to the processor; none for VFs and all but a card's first function,
    which have no link of their own.

    A graphics card may have a switch of its own, and a perfect link to that; the one that counts
    is the switch's.
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
    """How many lanes the first link has that is narrower than both its ends could make it, of
    those from a card up to the processor, and how many it could have. None where there is none."""
    for hop in hops(host, address):
        could = min(hop.best.width, hop.port.width)
        if hop.link.width < could:
            return hop.link.width, could
    return None


def names(ids: Iterable[str]) -> dict[str, str]:
    """Names of vendors and devices by "1002:73bf"; those that this machine knows."""
    wanted = set(ids)
    machine = Host()
    for path in _PCI_IDS:
        if text := machine.maybe(path):
            return _looked_up(text, wanted)
    return {}


def _looked_up(text: str, wanted: set[str]) -> dict[str, str]:
    """A vendor's line starts at the margin, those of its devices have one tab, subsystems two."""
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
