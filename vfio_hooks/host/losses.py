"""What the host would lose with a device: an unbind takes mounted file systems and the network
away without asking.
"""

from __future__ import annotations

import errno
import os

from vfio_hooks.host import Host, network
from vfio_hooks.host.devices import class_devices
from vfio_hooks.host.pci import DEVICES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def losses(host: Host, address: str) -> list[str]:
    """What the host would lose with the function, as clauses: "/home is mounted from nvme0n1"."""
    return lost_below(host, f"{DEVICES}/{address}")


def lost_below(host: Host, top: str) -> list[str]:
    """What the host would lose with a device of any bus, by the device's folder in sysfs."""
    found = []
    for device, folder in class_devices(host, top):
        subsystem = host.link(f"{folder}/subsystem")
        if subsystem == "block":
            found += _block_losses(host, device, folder)
        elif subsystem == "net":
            found += network.losses(host, device)
    return found


def _block_losses(host: Host, device: str, folder: str) -> list[str]:
    found = [*_mounts(host, device, folder), *_swaps(host, device)]
    for holder in host.names(f"{folder}/holders"):
        name = host.maybe(f"/sys/class/block/{holder}/dm/name")
        found.append(f"{device} is part of {f'{name} ({holder})' if name else holder}")
    if not found and host.is_this_machine and _is_claimed(f"/dev/{device}"):
        found.append(f"{device} is claimed by the kernel, as for a ZFS pool")
    return found


def _mounts(host: Host, device: str, folder: str) -> Iterator[str]:
    """Mounts by device number, and by name: btrfs shows a number of its own."""
    number = host.maybe(f"{folder}/dev")
    for line in host.lines("/proc/self/mountinfo"):
        fields = line.split(" ")
        source = line.partition(" - ")[2].split(" ")[1:2]
        if fields[2] == number or source == [f"/dev/{device}"]:
            yield f"{fields[4]} is mounted from {device}"


def _swaps(host: Host, device: str) -> Iterator[str]:
    for line in host.lines("/proc/swaps")[1:]:
        if line.split()[0] == f"/dev/{device}":
            yield f"{device} is swap space"


def _is_claimed(node: str) -> bool:
    """Whether an exclusive open is refused, which shows users without a holder in sysfs: ZFS."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False
