"""The devices below a folder of sysfs: what a function or an interface is to programs."""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

_NVME_SUBSYSTEMS = "/sys/class/nvme-subsystem"


def class_devices(host: Host, top: str) -> Iterator[tuple[str, str]]:
    """Name and folder of every device below a folder, without those of other PCI functions: a
    bridge's folder contains the folders of everything behind it.

    The kernel keeps the namespaces of an NVMe disk at the disk's subsystem if several controllers
    could reach it. They are included if this is the only controller.
    """
    for name, folder in _below(host, top):
        yield name, folder
        if host.link(f"{folder}/subsystem") == "nvme":
            yield from _namespaces(host, name)


def _namespaces(host: Host, controller: str) -> Iterator[tuple[str, str]]:
    """The shared namespaces that only this controller has."""
    for subsystem in host.names(_NVME_SUBSYSTEMS):
        place = f"{_NVME_SUBSYSTEMS}/{subsystem}"
        ways = [name for name in host.names(place) if re.fullmatch(r"nvme\d+", name)]
        if ways == [controller]:
            yield from _below(host, place)


def _below(host: Host, top: str) -> Iterator[tuple[str, str]]:
    folders = [top]
    while folders:
        folder = folders.pop()
        for name in host.names(folder):
            below = f"{folder}/{name}"
            path = host.path(below)
            if os.path.islink(path) or not os.path.isdir(path):
                continue
            subsystem = host.link(f"{below}/subsystem")
            if subsystem == "pci":
                continue
            folders.append(below)
            if subsystem is not None:
                yield name, below
