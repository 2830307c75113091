"""Signs that a guest's driver uses a PCI function: what it sets in the configuration space, and the
function's interrupts.

PCI Local Bus Specification 3.0, 6.2.2 (command register) and 6.7 (capabilities).
"""

from __future__ import annotations

import re

from vfio_hooks.errors import HookError, unreadable
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_COMMAND, _STATUS, _FIRST = 0x04, 0x06, 0x34
_BUS_MASTER, _HAS_LIST = 1 << 2, 1 << 4
_MSI, _MSIX = 0x05, 0x11
_ENABLED = {_MSI: 1 << 0, _MSIX: 1 << 15}
_MOST = 48
"""How many capabilities fit into 256 bytes. A broken device may have a list without an end."""


@record
class Signs:
    """`masters` says whether the function may access memory by itself (bus mastering), `messages`
    whether MSI or MSI-X is on. `interrupts` is how many it has had, including line interrupts."""

    masters: bool
    messages: bool
    interrupts: int

    def __str__(self) -> str:
        words = {True: "on", False: "off"}
        return (
            f"bus mastering {words[self.masters]}, MSI {words[self.messages]}, "
            f"{self.interrupts} interrupts"
        )


def signs(host: Host, address: str) -> Signs:
    """A function's signs now. Raises HookError if the function does not exist, or no longer
    answers."""
    space = _space(host, address)
    command = int.from_bytes(space[_COMMAND : _COMMAND + 2], "little")
    return Signs(bool(command & _BUS_MASTER), _has_messages(space), _interrupts(host, address))


def _space(host: Host, address: str) -> bytes:
    path = host.path(f"{DEVICES}/{address}/config")
    try:
        with open(path, "rb") as file:
            space = file.read(256)
    except OSError as error:
        raise unreadable(path, error) from None
    if space[:4] == b"\xff\xff\xff\xff" or len(space) < 64:
        raise HookError(f"{address} no longer answers", "vfio-hooks why explains the logs")
    return space


def _has_messages(space: bytes) -> bool:
    status = int.from_bytes(space[_STATUS : _STATUS + 2], "little")
    place = space[_FIRST] & ~3 if status & _HAS_LIST else 0
    for _ in range(_MOST):
        if not place or place + 4 > len(space):
            return False
        kind, following = space[place], space[place + 1] & ~3
        control = int.from_bytes(space[place + 2 : place + 4], "little")
        if control & _ENABLED.get(kind, 0):
            return True
        place = following
    return False


def _interrupts(host: Host, address: str) -> int:
    """The interrupts that VFIO has handled for a function: "vfio-msi[0](0000:04:00.0)"."""
    total = 0
    for line in host.lines("/proc/interrupts"):
        if re.search(rf"vfio[\w-]*(?:\[\d+\])?\({re.escape(address)}\)", line):
            counts = line.partition(":")[2].split()
            # The counts come first, one for each CPU that is online.
            for word in counts:
                if not word.isdecimal():
                    break
                total += int(word)
    return total
