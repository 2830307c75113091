"""USB devices, and what the kernel does when a driver's bind or unbind is written."""

import errno
from typing import Protocol

DEVICES, DRIVERS = "/sys/bus/usb/devices", "/sys/bus/usb/drivers"
RECEIVER = "046d:c52b"


class Machine(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    links: dict[str, str]


def boot(kernel: Machine) -> None:
    """Put drivers and a few devices into a kernel."""
    for driver in ("usb", "hub", "usbhid", "usb-storage"):
        kernel.files[f"{DRIVERS}/{driver}/uevent"] = "\n"
    plug(kernel, "usb1", "1d6b:0002", drivers=("hub",), kind="09")
    plug(kernel, "1-4", RECEIVER, "", ("usbhid", "usbhid", "usbhid"))
    plug(kernel, "1-5", "0951:1666", "E0D55E", ("usb-storage",), kind="08")


def plug(
    kernel: Machine,
    path: str,
    ids: str,
    serial: str = "",
    drivers: tuple[str, ...] = ("usbhid",),
    kind: str = "03",
) -> None:
    """Plug a device in, with an interface for each of the drivers."""
    folder = f"{DEVICES}/{path}"
    vendor, product = ids.split(":")
    number = 1 + sum(name.endswith("/devnum") for name in kernel.files)
    for file, text in (
        ("idVendor", vendor),
        ("idProduct", product),
        ("busnum", path.partition("-")[0]),
        ("devnum", str(number)),
        ("product", "USB Device"),
    ):
        kernel.files[f"{folder}/{file}"] = f"{text}\n"
    if serial:
        kernel.files[f"{folder}/serial"] = f"{serial}\n"
    for position, driver in enumerate(drivers):
        kernel.files[f"{folder}:1.{position}/bInterfaceClass"] = f"{kind}\n"
        kernel.links[f"{folder}:1.{position}/driver"] = driver


def unplug(kernel: Machine, path: str) -> None:
    start = (f"{DEVICES}/{path}/", f"{DEVICES}/{path}:")
    for name in [name for name in kernel.files if name.startswith(start)]:
        del kernel.files[name]
    for name in [name for name in kernel.links if name.startswith(start)]:
        del kernel.links[name]


def write(kernel: Machine, name: str, text: str) -> None:
    """DRIVERS/DRIVER/bind and unbind."""
    driver, verb = name.split("/")[-2:]
    link = f"{DEVICES}/{text}/driver"
    if f"{DEVICES}/{text}/bInterfaceClass" not in kernel.files:
        raise OSError(errno.ENODEV, "No such device", name)
    if verb == "unbind":
        if kernel.links.get(link) != driver:
            raise OSError(errno.ENODEV, "No such device", name)
        del kernel.links[link]
    elif link in kernel.links:
        raise OSError(errno.EBUSY, "Device or resource busy", name)
    else:
        kernel.links[link] = driver
