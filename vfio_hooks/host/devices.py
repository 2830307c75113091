"""The devices below a folder of sysfs: what a function or an interface is to programs."""

import os
from collections.abc import Iterator

from vfio_hooks.host import Host


def class_devices(host: Host, top: str) -> Iterator[tuple[str, str]]:
    """Name and folder of every device below a folder, those of other PCI functions left out:
    a bridge's folder has the folders of all that is behind it."""
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
