"""USB devices of the host, their interfaces and these interfaces' drivers.

A device is named after its bus and the ports that lead to it, "1-4.2". Its interfaces have the
numbers of the configuration and of the interface added, "1-4.2:1.0".
Documentation/ABI/testing/sysfs-bus-usb, and https://docs.kernel.org/driver-api/usb/usb.html. Buses
are numbered in the order in which their controllers are found, which may change with the next boot;
udev's ID_PATH names the controller.
"""

from __future__ import annotations

import os
import re

from vfio_hooks.host.pci import ADDRESS
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

DEVICES = "/sys/bus/usb/devices"
DRIVERS = "/sys/bus/usb/drivers"
HUB_CLASS = "09"
PATH = re.compile(r"\d+-\d+(\.\d+)*(:\d+\.\d+)?")
ID_PATH = re.compile(r"(pci-[0-9a-f:.]+-usb)(?:v[23])?(-0:\d+(?:\.\d+)*)(?::(\d+\.\d+))?")
IDS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")


@record
class Device:
    """A device: "1-4", "046d:c52b", its serial number ("" for none) and the name it gives itself.
    `place` is udev's ID_PATH, "pci-0000:0b:00.3-usb-0:4"; "" if no PCI device has the bus."""

    path: str
    ids: str
    serial: str
    product: str
    bus: int
    number: int
    place: str = ""

    def __str__(self) -> str:
        return f"{self.path} ({', '.join(filter(None, (self.ids, self.product)))})"


def devices(host: Host) -> list[Device]:
    """All devices except root hubs, which are part of the controllers."""
    found = []
    for path in host.names(DEVICES):
        vendor = host.maybe(f"{DEVICES}/{path}/idVendor")
        if vendor is None or not PATH.fullmatch(path):
            continue
        product, serial, name, bus, number = (
            host.maybe(f"{DEVICES}/{path}/{file}") or ""
            for file in ("idProduct", "serial", "product", "busnum", "devnum")
        )
        numbers = (int(bus or 0), int(number or 0))
        place = _place(host, *path.split("-"))
        found.append(Device(path, f"{vendor}:{product}", serial, name, *numbers, place))
    return found


def _place(host: Host, bus: str, ports: str) -> str:
    controller = os.path.dirname(os.path.realpath(host.path(f"{DEVICES}/usb{bus}")))
    found = re.search(f"/({ADDRESS})$", controller)
    return f"pci-{found[1]}-usb-0:{ports}" if found else ""


def interfaces(host: Host, device: Device) -> list[str]:
    """The interfaces of a device's configuration, without the device's path: "1.0"."""
    start = f"{device.path}:"
    names = (name for name in host.names(DEVICES) if name.startswith(start))
    return [name.removeprefix(start) for name in names]


def find(host: Host, path: str, ids: str, serial: str, place: str = "") -> Device | None:
    """The device that was at `place`, or at `path` if its place is not known: there, or wherever it
    has been plugged in since. None if it is not plugged in."""
    alike = [device for device in devices(host) if device.ids == ids]
    for device in alike:
        is_there = device.place == place if place else device.path == path
        if is_there and serial in ("", device.serial):
            return device
    moved = [device for device in alike if device.serial == serial]
    return moved[0] if len(moved) == 1 else None
