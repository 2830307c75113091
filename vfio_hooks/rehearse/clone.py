"""The clone of a domain: its passed devices, CPUs and memory, and nothing that could be lost.

It has no disk, no network and no firmware. Its vCPUs never run, because it is started paused. So
nothing boots from a passed disk either.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from uuid import NAMESPACE_DNS, uuid5

from vfio_hooks.domain.devices import QEMU
from vfio_hooks.domain.text import element, serialized
from vfio_hooks.record import record

if TYPE_CHECKING:
    from lxml.etree import _Element

_KEPT = """
    memory currentMemory maxMemory memtune memoryBacking vcpu vcpus iothreads iothreadids cputune
    numatune resource os features cpu clock devices seclabel
""".split()
_KEPT_DEVICES = "emulator controller hostdev interface iommu memory shmem".split()
_CONTROLLERS = ("pci", "usb")
_PASSED = ("pci", "usb", "mdev")
NO_USB = {"type": "usb", "model": "none"}
"""The attributes of the <controller> that keeps libvirt from adding one for USB."""
_EXISTING = ("dimm", "virtio-mem")
"""Models of memory devices that use the host's memory; others use files."""
_SHARED = ("ivshmem", "memory-backend-file")
"""The arguments for QEMU that are kept, because [[shm]] makes their file."""


@record
class Clone:
    """A clone: its name and UUID, its XML, and which parts of the domain it lacks, in words."""

    name: str
    uuid: str
    xml: bytes
    lacks: tuple[str, ...]


def name_of(vm: str) -> str:
    """The name of a VM's clone."""
    return f"{vm}-rehearsal"


def uuid_of(vm: str) -> str:
    """The UUID of a VM's clone, the same in each rehearsal."""
    return str(uuid5(NAMESPACE_DNS, f"{vm}.rehearsal.vfio-hooks"))


def clone(vm: str, xml: bytes, is_pool: Callable[[str], bool]) -> Clone:
    """The clone of a domain. `is_pool` says whether a libvirt network passes VFs of a card through.
    Raises HookError if this is not a domain's XML."""
    root, lacks = element(xml), Counter[str]()
    for one in [one for one, is_kept in _parts(root, is_pool) if not is_kept]:
        parent = one.getparent()
        assert parent is not None
        # The other parts that are left out do not matter to the host.
        if parent.tag in ("devices", f"{QEMU}commandline"):
            lacks[f"<{one.tag}>".replace(QEMU, "qemu:")] += 1
        parent.remove(one)
    for tag, text in (("uuid", uuid_of(vm)), ("name", name_of(vm))):
        new = root.makeelement(tag)
        new.text = text
        root.insert(0, new)
    devices = root.find("devices")
    if devices is not None:
        # libvirt would add one of each that is not mentioned.
        devices.append(root.makeelement("memballoon", {"model": "none"}))
        if devices.find("controller[@type='usb']") is None:
            devices.append(root.makeelement("controller", NO_USB))
    told = (kind if count == 1 else f"{count} {kind}" for kind, count in lacks.items())
    return Clone(name_of(vm), uuid_of(vm), serialized(root).encode(), tuple(told))


def _parts(root: "_Element", is_pool: Callable[[str], bool]) -> "Iterator[tuple[_Element, bool]]":
    """The parts of a domain that may be left out, each with whether it is kept."""
    for one in root.iterfind(f"{QEMU}commandline/*"):
        after = one.getnext()
        pair = one.get("value", "") + ("" if after is None else after.get("value", ""))
        is_option = pair.startswith(("-object", "-device"))
        yield one, any(word in (pair if is_option else one.get("value", "")) for word in _SHARED)
    for one in root:
        yield one, one.tag in (*_KEPT, f"{QEMU}commandline")
    for tag in ("os", "devices"):
        for one in root.iterfind(f"{tag}/*"):
            yield one, one.tag == "type" if tag == "os" else _is_kept(one, is_pool)
    for one in root.iterfind("devices/hostdev/boot"):
        yield one, False
    for attributes in root.iterfind("os"):
        attributes.attrib.pop("firmware", "")


def _is_kept(device: "_Element", is_pool: Callable[[str], bool]) -> bool:
    kind = device.get("type", "")
    match device.tag:
        case "controller":
            return kind in _CONTROLLERS
        case "hostdev":
            # A SCSI device is a disk.
            return device.get("mode", "subsystem") == "subsystem" and kind in _PASSED
        case "interface":
            source = device.find("source")
            network = "" if source is None else source.get("network", "")
            return kind == "hostdev" or (kind == "network" and is_pool(network))
        case "memory":
            return device.get("model") in _EXISTING
    return device.tag in _KEPT_DEVICES
