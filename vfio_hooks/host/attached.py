"""What is attached to a PCI function and goes to the VM with it: disks and USB devices."""

from collections.abc import Iterable, Iterator

from vfio_hooks.host import Host
from vfio_hooks.host.devices import class_devices
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.host.usb import DEVICES as USB
from vfio_hooks.record import record

_HID = "03"
_INPUTS = {"01": "keyboard", "02": "mouse"}
"""By bInterfaceProtocol: USB's "Device Class Definition for HID", 4.3."""
_PS2 = {"keyboard": "atkbd", "mouse": "psmouse"}


@record
class Attached:
    """A disk "nvme0n1" or a USB device "1-4", the name that it gives itself, and "046d:c52b" for
    USB."""

    name: str
    product: str
    ids: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.product})" if self.product else self.name


def attached(host: Host, address: str) -> list[Attached]:
    """The disks and USB devices on a function, without its own root hubs."""
    found = []
    for name, folder in class_devices(host, f"{DEVICES}/{address}"):
        kind = host.link(f"{folder}/subsystem")
        if kind == "block" and not host.exists(f"{folder}/partition"):
            found.append(Attached(name, host.maybe(f"{folder}/device/model") or ""))
        elif kind == "usb" and not name.startswith("usb") and host.exists(f"{folder}/idVendor"):
            parts = (host.maybe(f"{folder}/{part}") or "" for part in ("idVendor", "idProduct"))
            product = host.maybe(f"{folder}/product") or ""
            found.append(Attached(name, product, ":".join(parts)))
    return sorted(found, key=lambda one: one.name)


def only_inputs(host: Host, addresses: Iterable[str]) -> Iterator[str]:
    """ "keyboard" and "mouse", if all keyboards or mice of the host are on these functions."""
    lent = {
        name for address in addresses for name, _ in class_devices(host, f"{DEVICES}/{address}")
    }
    for protocol, kind in _INPUTS.items():
        every = {
            name
            for name in host.names(USB)
            if host.maybe(f"{USB}/{name}/bInterfaceClass") == _HID
            and host.maybe(f"{USB}/{name}/bInterfaceProtocol") == protocol
        }
        ps2 = any(
            host.link(f"/sys/bus/serio/devices/{name}/driver") == _PS2[kind]
            for name in host.names("/sys/bus/serio/devices")
        )
        if every and every <= lent and not ps2:
            yield kind
