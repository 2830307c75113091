"""PCI functions and their IOMMU groups, read from sysfs.

https://docs.kernel.org/driver-api/vfio.html, "Groups, Devices, and IOMMUs".
"""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Protocol

    from vfio_hooks.host import Host

    class _Passed(Protocol):
        @property
        def address(self) -> str: ...

    class _Domain(Protocol):
        @property
        def pci(self) -> Sequence[_Passed]: ...


BUS = "/sys/bus/pci"
DEVICES = f"{BUS}/devices"
DRIVERS = f"{BUS}/drivers"
PROBE = f"{BUS}/drivers_probe"
GROUPS = "/sys/kernel/iommu_groups"
SHORT = r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
"""A pattern for a function's address without its domain."""
ADDRESS = rf"[0-9a-f]{{4,}}:{SHORT}"
"""A pattern for a function's address. Behind Intel's VMD a PCI domain has five digits."""
IORESOURCE_MEM = 0x200
_BARS = 6
DISPLAY_CLASS = "0x03"
"""How the classes of graphics cards begin."""
# PCI-to-PCI bridges, also semi-transparent ones: their driver, pcieport, does not interfere with
# the group's DMA. The driver of an ISA bridge (0x0601, lpc_ich) does.
_BRIDGE_CLASSES = ("0x0604", "0x0609")


@record
class Function:
    """A PCI function as the host has it: "0000:04:00.1", its driver, its IOMMU group's number."""

    address: str
    driver: str | None
    group: str | None
    device_class: str
    ids: str

    @property
    def is_bridge(self) -> bool:
        """Whether it is a bridge. Bridges stay with the host: VFIO tolerates them in a group."""
        return self.device_class.startswith(_BRIDGE_CLASSES)

    @property
    def is_display(self) -> bool:
        """Whether it is a graphics card, with VGA or without."""
        return self.device_class.startswith(DISPLAY_CLASS)

    @property
    def is_hosts(self) -> bool:
        """Whether the host itself uses it, so that VFIO passes no device of its group."""
        return not self.is_bridge and self.driver is not None and not is_for_guests(self.driver)

    def __str__(self) -> str:
        return f"{self.address} ({self.driver or 'no driver'}, {self.ids})"


def function(host: Host, address: str) -> Function | None:
    """The function at an address, or None if there is none."""
    folder = f"{DEVICES}/{address}"
    if not host.exists(folder):
        return None
    vendor, device = (host.maybe(f"{folder}/{name}") or "?" for name in ("vendor", "device"))
    return Function(
        address=address,
        driver=host.link(f"{folder}/driver"),
        group=host.link(f"{folder}/iommu_group"),
        device_class=host.maybe(f"{folder}/class") or "",
        ids=f"{vendor.removeprefix('0x')}:{device.removeprefix('0x')}",
    )


def card(address: str) -> str:
    """What the addresses of one card's functions have in common: its slot, "0000:04:00"."""
    return address.rpartition(".")[0]


def group_members(host: Host, group: str) -> list[Function]:
    """The functions of an IOMMU group."""
    names = host.names(f"{GROUPS}/{group}/devices")
    return [member for name in names if (member := function(host, name)) is not None]


def direct_regions(host: Host, group: str) -> list[str]:
    """Memory, "0x7d000000-0x7dffffff", that a group's devices must be able to reach at its real
    address, because the firmware says so (Intel's RMRR). Most kernels do not pass such a group,
    unless the memory is "direct-relaxable". Documentation/ABI/testing/sysfs-kernel-iommu_groups.
    """
    lines = map(str.split, host.lines(f"{GROUPS}/{group}/reserved_regions"))
    return [f"{line[0]}-{line[1]}" for line in lines if line[2:] == ["direct"]]


def direct_mapping(host: Host, address: str) -> HookError | None:
    """Why the kernel gives a function to no guest: the firmware keeps using memory through it. None
    if it does not. Only a kernel that is patched for this lets such a guest start."""
    found = function(host, address)
    regions = direct_regions(host, found.group) if found and found.group else []
    if not regions:
        return None
    return HookError(
        f"{found}: the firmware has to be able to reach memory through it at all times (RMRR, "
        f"{', '.join(regions)}), so the kernel gives it to no VM",
        "find out whether the firmware, or a tool of the board's maker, can switch that off for "
        "its slot; otherwise only a patched kernel can start the VM",
    )


def is_vfios(driver: str | None) -> bool:
    """Whether a driver is vfio-pci, or one of its variants such as mlx5_vfio_pci."""
    return driver is not None and "vfio" in driver and "/" not in driver


def is_shown_to_vfio(host: Host, address: str) -> bool:
    """Whether a function's driver, under any other name, lets QEMU open it (since Linux 6.1 this
    can be seen). NVIDIA's driver does so with VFs that are vGPUs, which do not work without it."""
    folder = f"{DEVICES}/{address}"
    return host.exists(f"{folder}/vfio-dev") and not is_vfios(host.link(f"{folder}/driver"))


def is_for_guests(driver: str | None) -> bool:
    """Whether a driver only keeps a function for a guest: VFIO's, or one of the older stubs."""
    return is_vfios(driver) or driver in ("pci-stub", "pciback")


def passed_displays(host: Host, domain: _Domain) -> list[Function]:
    """The graphics cards of this host that a domain is given."""
    found = (function(host, passed.address) for passed in domain.pci)
    return [one for one in found if one is not None and one.is_display]


def kept_displays(host: Host, domain: _Domain) -> list[Function]:
    """The graphics cards that a host keeps while a domain runs: those that are not given to it and
    do not have a driver for guests."""
    given = {passed.address for passed in domain.pci}
    found = (function(host, address) for address in host.names(DEVICES) if address not in given)
    return [one for one in found if one and one.is_display and not is_for_guests(one.driver)]


def bars(host: Host, address: str) -> Iterator[tuple[int, int, int, int]]:
    """The BARs that a function has, without its expansion ROM: number, first and last address,
    flags (IORESOURCE_ of include/linux/ioport.h)."""
    for number, line in enumerate(host.lines(f"{DEVICES}/{address}/resource")[:_BARS]):
        start, end, flags = (int(word, 16) for word in line.split())
        if end > start:
            yield number, start, end, flags


def bar_size(host: Host, address: str, bar: int) -> int | None:
    """The size of a memory BAR in MiB; None if there is no such device or BAR."""
    sizes = {number: end - start + 1 for number, start, end, _ in bars(host, address)}
    return sizes[bar] >> 20 if bar in sizes else None


def bar_sizes(host: Host, address: str, bar: int) -> list[int]:
    """The sizes in MiB that a BAR can be given; none if its size is fixed."""
    # A bit for each power of two, the lowest being 1 MiB.
    mask = int(host.maybe(f"{DEVICES}/{address}/resource{bar}_resize") or "0", 16)
    return [1 << bit for bit in range(mask.bit_length()) if mask >> bit & 1]
