"""What of the host a domain uses besides PCI functions, read from its XML."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml.etree import _Element


@dataclass(frozen=True)
class UsbDevice:
    """A host USB device that the domain is given: by vendor and product, "046d:c52b", by bus and
    device number, or by both. An `optional` one may be absent."""

    ids: str | None
    address: tuple[int, int] | None
    optional: bool = False

    def __str__(self) -> str:
        place = f"bus {self.address[0]} device {self.address[1]}" if self.address else ""
        return " ".join(filter(None, (self.ids, place)))


def usb_devices(root: "_Element") -> Iterator[UsbDevice]:
    for source in root.iterfind("devices/hostdev[@type='usb']/source"):
        vendor, product, address = map(source.find, ("vendor", "product", "address"))
        ids = [number(part.get("id", "0")) for part in (vendor, product) if part is not None]
        where = None
        if address is not None:
            where = (number(address.get("bus", "0")), number(address.get("device", "0")))
        yield UsbDevice(
            ids="{:04x}:{:04x}".format(*ids) if len(ids) == 2 else None,
            address=where,
            optional=source.get("startupPolicy") in ("optional", "requisite"),
        )


def number(text: str) -> int:
    """A number as C's strtol reads it with base 0: 0x hex, 0 octal, else decimal."""
    octal = text.startswith("0") and text.isdecimal()
    return int(text, 8 if octal else 0)
