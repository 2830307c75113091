"""A hard disk of a domain: what it is on the host, and how it is attached."""

from typing import TYPE_CHECKING

from vfio_hooks.check.rule import Guest
from vfio_hooks.domain.editing import Edit
from vfio_hooks.record import record

if TYPE_CHECKING:
    from lxml.etree import _Element

_LOADERS = ("opencore", "clover", "basesystem", "recoveryimage")
"""In the names of images that start macOS, or install it."""


@record
class Disk:
    """A hard disk of a domain, its <target> and the attributes of its <driver>."""

    name: str
    bus: str
    kind: str
    source: str
    is_writable: bool
    driver: dict[str, str]

    @property
    def only_boots(self) -> bool:
        """Whether it is an image that starts a guest or installs it, and that nobody writes to."""
        name = self.source.rpartition("/")[2].lower()
        return name.endswith((".iso", ".dmg")) or any(part in name for part in _LOADERS)

    def told(self, **attributes: str) -> Edit:
        """The edit that gives its <driver> attributes."""
        name = {} if "name" in self.driver else {"name": "qemu"}
        return Edit(f"devices/disk({self.name})/driver", name | attributes)


def disks(guest: Guest) -> list[Disk]:
    """The hard disks of a domain, in the order of the XML."""
    found = []
    for disk in guest.xml.iterfind("devices/disk"):
        target, driver, source = map(disk.find, ("target", "driver", "source"))
        if disk.get("device", "disk") != "disk" or target is None:
            continue
        found.append(
            Disk(
                name=target.get("dev", "?"),
                bus=target.get("bus") or _usual_bus(target),
                kind=disk.get("type", "file"),
                source=_source(source),
                is_writable=disk.find("readonly") is None,
                driver=_attributes(driver),
            )
        )
    return found


def _usual_bus(target: "_Element") -> str:
    """The bus that libvirt chooses if the XML names none, by the letters of the target."""
    buses = {"hd": "ide", "sd": "scsi", "vd": "virtio", "xvd": "xen", "fd": "fdc"}
    return buses.get(target.get("dev", "").rstrip("abcdefghijklmnopqrstuvwxyz")[:3], "") or next(
        (bus for start, bus in buses.items() if target.get("dev", "").startswith(start)), "ide"
    )


def _attributes(driver: "_Element | None") -> dict[str, str]:
    if driver is None:
        return {}
    return {str(name): str(value) for name, value in driver.attrib.items()}


def _source(source: "_Element | None") -> str:
    return "" if source is None else source.get("dev") or source.get("file") or ""
