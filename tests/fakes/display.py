"""What the kernel does with a card's module stack, its firmware framebuffer and the console."""

import errno
from typing import Protocol

PLATFORM = "/sys/bus/platform"
CONSOLES = "/sys/class/vtconsole"
FIRMWARE = "efi-framebuffer.0"


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    links: dict[str, str]
    home: dict[str, str]


def add(kernel: Files) -> None:
    """A console on the firmware's framebuffer, and two modules, one on top of the other."""
    for number, name, bound in ((0, "(S) dummy device", 0), (1, "(M) frame buffer device", 1)):
        kernel.files[f"{CONSOLES}/vtcon{number}/name"] = name + "\n"
        kernel.files[f"{CONSOLES}/vtcon{number}/bind"] = f"{bound}\n"
    kernel.files[f"{PLATFORM}/devices/{FIRMWARE}/graphics/fb0/dev"] = "29:0\n"
    kernel.links[f"{PLATFORM}/devices/{FIRMWARE}/driver"] = "efi-framebuffer"
    load(kernel, "nvidia")
    load(kernel, "nvidia_drm")
    kernel.files["/sys/module/nvidia/holders/nvidia_drm"] = "\n"


def load(kernel: Files, name: str) -> None:
    """modprobe: the driver of this name takes what is waiting for it."""
    kernel.files[f"/sys/module/{name.replace('-', '_')}/refcnt"] = "0\n"
    kernel.files[f"/sys/bus/pci/drivers/{name}/uevent"] = "\n"
    if name == "nvidia_drm":
        kernel.files["/sys/module/nvidia/holders/nvidia_drm"] = "\n"
    for address, driver in kernel.home.items():
        if driver == name:
            kernel.links.setdefault(f"/sys/bus/pci/devices/{address}/driver", driver)


def unload(kernel: Files, name: str) -> None:
    """rmmod: refused while another module stands on it."""
    folder = f"/sys/module/{name}/"
    if any(path.startswith(f"{folder}holders/") for path in kernel.files):
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable", name)
    gone = (folder, f"/sys/bus/pci/drivers/{name}/", "/sys/module/nvidia/holders/" + name)
    for path in [path for path in kernel.files if path.startswith(gone)]:
        del kernel.files[path]
    for link in [link for link, driver in kernel.links.items() if driver == name]:
        del kernel.links[link]


def bind(kernel: Files, path: str, device: str) -> None:
    """A write to a platform driver's `bind` or `unbind`."""
    *_, driver, verb = path.split("/")
    link = f"{PLATFORM}/devices/{device}/driver"
    if (kernel.links.get(link) == driver) != (verb == "unbind"):
        raise OSError(errno.ENODEV, "No such device", path)
    if verb == "unbind":
        del kernel.links[link]
    else:
        kernel.links[link] = driver
