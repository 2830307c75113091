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
    """Name and folder of every device below a folder, those of other PCI functions left out:
    a bridge's folder has the folders of all that is behind it.

    The namespaces of an NVMe disk are among them also where the kernel keeps them at the disk's
    subsystem, because there could be several ways to it, if this is the only way.
    """
    for name, folder in _below(host, top):
        yield name, folder
        if host.link(f"{folder}/subsystem") == "nvme":
            yield from _namespaces(host, name)


def _namespaces(host: Host, controller: str) -> Iterator[tuple[str, str]]:
    """The shared namespaces that nobody but this controller has."""
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
