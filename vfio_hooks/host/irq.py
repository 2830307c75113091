"""Interrupts: which there are, and which belong to guests.

https://docs.kernel.org/core-api/irq/irq-affinity.html and Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import re

from vfio_hooks.host.pci import DEVICES, is_vfios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfio_hooks.host import Host

FOLDER = "/proc/irq"
DEFAULT = "/proc/irq/default_smp_affinity"
BALANCER = "/run/irqbalance"


def numbers(host: Host) -> list[int]:
    """Every interrupt that the kernel knows, in use or not."""
    return sorted(map(int, filter(str.isdecimal, host.names(FOLDER))))


def of_devices(host: Host, addresses: Iterable[str]) -> set[int]:
    """The interrupts of PCI functions that guests have: the message-signalled ones while they are
    allocated, otherwise the line interrupt, unless a device of the host shares it."""
    addresses = tuple(addresses)
    folders = (f"{DEVICES}/{address}/msi_irqs" for address in addresses)
    return lines(host, addresses).union(*(map(int, host.names(folder)) for folder in folders))


def lines(host: Host, addresses: Iterable[str]) -> set[int]:
    """Those of these interrupts that are line interrupts, which stay when the guest has ended."""
    found = set()
    for address in addresses:
        line = host.maybe(f"{DEVICES}/{address}/irq") or "0"
        if host.names(f"{DEVICES}/{address}/msi_irqs"):
            continue
        if all("vfio" in action for action in _actions(host, line)):
            found.add(int(line))
    return found


def _actions(host: Host, number: str) -> list[str]:
    """Who handles an interrupt: "vfio-intx(0000:04:00.0)"."""
    return (host.maybe(f"/sys/kernel/irq/{number}/actions") or "(null)").split(",")


def lent(host: Host) -> list[str]:
    """The PCI functions that VFIO has for guests."""
    return [
        address
        for address in host.names(DEVICES)
        if is_vfios(host.link(f"{DEVICES}/{address}/driver"))
    ]


def balancer(host: Host) -> str | None:
    """The control socket of the irqbalance that is running."""
    for name in host.names(BALANCER):
        found = re.fullmatch(r"irqbalance([0-9]+)\.sock", name)
        # An irqbalance that was killed leaves its socket behind.
        if found and host.exists(f"/proc/{found[1]}"):
            return f"{BALANCER}/{name}"
    return None
