"""The framebuffer that the firmware or the boot loader set up, and the card that it is on.

Its driver (efifb, vesafb, simplefb or simpledrm) belongs to a platform device. Since Linux 6.9 that
device is below the card's own folder. Before, only memory connects the two: the driver has claimed
part of one of the card's BARs in /proc/iomem.
"""

from __future__ import annotations

import os

from vfio_hooks.host.pci import DEVICES, IORESOURCE_MEM, bars

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

PLATFORM = "/sys/bus/platform"
_PICTURES = ("BOOTFB", "efifb", "vesafb", "simplefb", "simpledrm")
"""The names of such framebuffers in /proc/iomem. vesafb claims all memory that the firmware counts,
which may be a whole BAR."""


def firmware_framebuffers(host: Host, address: str) -> list[str]:
    """The platform devices that draw on a PCI function's memory: "efi-framebuffer.0"."""
    here = os.path.realpath(host.path(f"{DEVICES}/{address}"))
    claimed = bool(users_of_memory(host, address))
    return [
        device
        for device in _displays(host)
        if claimed
        or os.path.realpath(host.path(f"{PLATFORM}/devices/{device}")).startswith(f"{here}/")
    ]


def _displays(host: Host) -> Iterator[str]:
    """The platform devices that are a framebuffer or a DRM card now."""
    for device in host.names(f"{PLATFORM}/devices"):
        folder = f"{PLATFORM}/devices/{device}"
        if host.link(f"{folder}/driver") and (
            host.exists(f"{folder}/graphics") or host.exists(f"{folder}/drm")
        ):
            yield device


def users_of_memory(host: Host, address: str) -> list[str]:
    """What uses part of a function's memory apart from the function's own driver, by the names in
    /proc/iomem: "BOOTFB"."""
    driver = host.link(f"{DEVICES}/{address}/driver")
    windows = [(low, high) for _, low, high, flags in bars(host, address) if flags & IORESOURCE_MEM]
    found = (
        name
        for start, end, name in (_regions(host) if windows else ())
        if name not in (address, driver)
        # A driver has whole BARs, and may call itself otherwise there: "ICH HD audio".
        and (driver is None or name in _PICTURES or (start, end) not in windows)
        and any(low <= start and end <= high for low, high in windows)
    )
    return list(dict.fromkeys(found))


def _regions(host: Host) -> Iterator[tuple[int, int, str]]:
    """The host's memory map: first and last address, and name. Only root sees the addresses."""
    for line in host.lines("/proc/iomem"):
        span, _, name = line.strip().partition(" : ")
        start, _, end = span.partition("-")
        if end and (start, end) != ("0" * len(start), "0" * len(end)):
            yield int(start, 16), int(end, 16), name
