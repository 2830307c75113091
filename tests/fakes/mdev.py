"""What the kernel does with mediated devices, as seen with its sample driver mtty."""

import errno
from typing import Protocol

DEVICES = "/sys/bus/mdev/devices"
PARENTS = "/sys/class/mdev_bus"


class Machine(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    links: dict[str, str]


def add_type(kernel: Machine, parent: str, name: str, free: int = 2) -> None:
    """Let a device offer a type, and room for so many devices of it."""
    folder = f"{PARENTS}/{parent}/mdev_supported_types/{name}"
    kernel.files[f"{folder}/create"] = ""
    kernel.files[f"{folder}/name"] = f"{name} in words\n"
    kernel.files[f"{folder}/available_instances"] = f"{free}\n"


def make(kernel: Machine, file: str, uuid: str) -> None:
    """A write to a type's create."""
    *_, parent, _, name, _ = file.split("/")
    if f"{DEVICES}/{uuid}/mdev_type" in kernel.links:
        raise OSError(errno.EEXIST, "File exists", file)
    _count(kernel, parent, name, -1)
    kernel.links[f"{DEVICES}/{uuid}/mdev_type"] = name
    kernel.links[f"{PARENTS}/{parent}/{uuid}/mdev_type"] = name
    kernel.files[f"{DEVICES}/{uuid}/remove"] = ""
    kernel.files[f"{DEVICES}/{uuid}/parent"] = parent


def remove(kernel: Machine, file: str) -> None:
    """A write to a device's remove."""
    folder = file.rpartition("/")[0]
    parent = kernel.files.pop(f"{folder}/parent")
    del kernel.links[f"{PARENTS}/{parent}/{folder.rpartition('/')[2]}/mdev_type"]
    _count(kernel, parent, kernel.links.pop(f"{folder}/mdev_type"), 1)
    del kernel.files[file]


def _count(kernel: Machine, parent: str, name: str, more: int) -> None:
    file = f"{PARENTS}/{parent}/mdev_supported_types/{name}/available_instances"
    if (left := int(kernel.files[file]) + more) < 0:
        raise OSError(errno.ENOSPC, "No space left on device", file)
    kernel.files[file] = f"{left}\n"
