"""Mediated devices: parts of a device that its driver lends to guests one by one, such as vGPUs.

Each has a UUID, which whoever makes it chooses, and a type, which its parent device offers.
https://docs.kernel.org/driver-api/vfio-mediated-device.html
"""

from __future__ import annotations

from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

DEVICES = "/sys/bus/mdev/devices"
PARENTS = "/sys/class/mdev_bus"


@record
class Type:
    """A type of mediated devices of a parent: "i915-GVTg_V5_4" of "0000:00:02.0". `name` is what
    the driver calls it ("" for nothing); `free` is how many more can be made."""

    parent: str
    type: str
    name: str = ""
    free: int = 0

    def __str__(self) -> str:
        return f"{self.type} of {self.parent}"


def types(host: Host) -> list[Type]:
    """All types that the host's devices offer now, sorted by parent and type."""
    return [
        _type(host, parent, name)
        for parent in host.names(PARENTS)
        for name in host.names(types_folder(parent))
    ]


def _type(host: Host, parent: str, name: str) -> Type:
    folder = f"{types_folder(parent)}/{name}"
    free = host.maybe(f"{folder}/available_instances") or ""
    words = host.maybe(f"{folder}/name") or ""
    return Type(parent, name, words, int(free) if free.isdecimal() else 0)


def types_folder(parent: str) -> str:
    """Where a parent has its types, a folder for each."""
    return f"{PARENTS}/{parent}/mdev_supported_types"


def type_of(host: Host, uuid: str, parent: str | None = None) -> str | None:
    """The type of a device; None if there is no such device, or not of this parent."""
    folder = DEVICES if parent is None else f"{PARENTS}/{parent}"
    return host.link(f"{folder}/{uuid}/mdev_type")
