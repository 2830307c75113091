"""Which devices udev has announced to programs, by its own records."""

from __future__ import annotations

import re

from vfio_hooks.host.pci import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host


def announced_cards(host: Host, address: str, subsystem: str) -> list[str]:
    """The folders of a PCI function's cards of a subsystem, "drm" or "sound", that udev knows."""
    folder = f"{DEVICES}/{address}/{subsystem}"
    found = [name for name in host.names(folder) if re.fullmatch(r"card\d+", name)]
    return [f"{folder}/{name}" for name in found if is_announced(host, f"{folder}/{name}")]


def is_announced(host: Host, folder: str) -> bool:
    """Whether udev has a record of a card, by its folder: .../sound/card0.

    udev writes it when it has handled an "add" or "change" of the device, and removes it at a
    "remove". The sources of sd-device call it the database.
    """
    number = host.maybe(f"{folder}/dev")
    subsystem, name = folder.split("/")[-2:]
    return host.exists(f"/run/udev/data/{f'c{number}' if number else f'+{subsystem}:{name}'}")


def settle(host: Host, seconds: float) -> None:
    """Wait until udev has handled the kernel's events so far. Returns at once if there is no udev.
    Raises HookError if it takes longer than `seconds`."""
    if host.exists("/run/udev"):
        host.show(["udevadm", "settle", f"--timeout={seconds:g}"], seconds + 5)
