"""Which of a host's PCI functions its likeness has, and which QEMU device stands in for each."""

from vfio_hooks.host import Host, sriov
from vfio_hooks.host.framebuffer import users_of_memory
from vfio_hooks.host.pci import DEVICES, Function, function, group_members, is_vfios
from vfio_hooks.record import record

VFS = 7
"""How many VFs the driver of igb can make, which stands in for all cards with SR-IOV."""
_PF = "igb,romfile="
_VGA = "VGA,vgamem_mb=16"
_FRAMEBUFFER = "cirrus-vga,vgamem_mb=16"
"""It has no driver of its own, so it is the only card that can keep the boot's framebuffer."""
FRAMEBUFFER = ("vga=0x317", "module_blacklist=cirrus,cirrus_qemu")
"""The kernel parameters for that: 1024x768, set by the card's own firmware before the kernel
starts."""
_DRIVEN, _IDLE = "virtio-rng-pci", "pci-testdev"
"""Devices for all other classes: with a driver, and without."""
# By the beginning of the class; the first one that fits is used.
_MODELS = {
    "0x03": "bochs-display,romfile=",
    "0x0401": "ich9-intel-hda",
    "0x0403": "ich9-intel-hda",
    "0x0c03": "qemu-xhci",
    "0x02": "e1000e,romfile=",
    "0x0108": "nvme",
    "0x0106": "ich9-ahci",
    "0x07": "pci-serial",
}
_SEEN = ("0x03", "0x0403", "0x0c03", "0x0200", "0x0108")
"""Classes whose functions are imitated even if no VM has anything to do with them."""


@record
class Wanted:
    """A function that is imitated: the host's function, the QEMU model that stands in for it, its
    NUMA node, its network interface, and how many VFs it has now, None for a card without
    SR-IOV."""

    function: Function
    model: str
    node: int | None = None
    interface: str | None = None
    vfs: int | None = None

    @property
    def has_framebuffer(self) -> bool:
        """Whether the framebuffer that the firmware set up is still on it."""
        return self.model == _FRAMEBUFFER

    @property
    def lost(self) -> str | None:
        """What of it is not imitated, in words; None if all of it is."""
        if self.model in (_DRIVEN, _IDLE):
            return f"{self.function}: nothing of its class ({self.function.device_class})"
        if (self.vfs or 0) > VFS:
            return f"{self.function}: {VFS} of its {self.vfs} VFs are there"
        return None


def wanted(host: Host, named: frozenset[str]) -> list[Wanted]:
    """The functions of a host's likeness: those that the VM or its folder names, with their IOMMU
    groups and the PFs of VFs, and others of the usual classes. In the order of their addresses."""
    needed = {sriov.pf_of(host, address) or address for address in named}
    for address in list(needed):
        found = function(host, address)
        if found and found.group is not None:
            needed |= {member.address for member in group_members(host, found.group)}
    every = (function(host, address) for address in host.names(DEVICES))
    return [
        _wanted(host, one)
        for one in every
        if one is not None
        and not one.device_class.startswith(("0x0604", "0x0609", "0x0600"))
        and sriov.pf_of(host, one.address) is None
        and (one.address in needed or one.device_class.startswith(_SEEN))
    ]


def _wanted(host: Host, one: Function) -> Wanted:
    folder = f"{DEVICES}/{one.address}"
    node = int(host.maybe(f"{folder}/numa_node") or -1)
    numbers = host.maybe(f"{folder}/sriov_numvfs")
    is_pf = numbers is not None and one.device_class.startswith("0x02")
    return Wanted(
        function=one,
        model=_PF if is_pf else _model(host, one),
        node=node if node >= 0 else None,
        interface=sriov.interface(host, one.address),
        vfs=int(numbers or 0) if is_pf else None,
    )


def _model(host: Host, one: Function) -> str:
    if one.is_display and users_of_memory(host, one.address):
        return _FRAMEBUFFER
    if one.is_display and host.maybe(f"{DEVICES}/{one.address}/boot_vga") == "1":
        return _VGA
    found = (model for start, model in _MODELS.items() if one.device_class.startswith(start))
    return next(found, _DRIVEN if one.driver and not is_vfios(one.driver) else _IDLE)
