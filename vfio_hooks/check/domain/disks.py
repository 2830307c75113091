"""Disks: what they are on the host, how they are attached, and what is done to be fast."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import is_tuned, passed
from vfio_hooks.check.domain.kind import hides_hypervisor, is_macos
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Edit
from vfio_hooks.record import record

if TYPE_CHECKING:
    from lxml.etree import _Element

_GUIDE = "guide: Virtio-Block tuning"
_UNCACHED = ("none", "directsync")
_SLOW_BUSES = ("ide", "sata", "fdc")
_UNSTABLE = re.compile(r"/dev/(sd[a-z]+|nvme\d+n\d+(p\d+)?|sd[a-z]+\d+|hd[a-z]\d*)")
"""What the kernel counts as it finds disks, which is another order after some boots."""
_LOADERS = ("opencore", "clover", "basesystem", "recoveryimage")
"""In the names of images that start macOS, or install it."""


@record
class Disk:
    """A hard disk of a domain, its <target> and the attributes of its <driver>."""

    name: str
    bus: str
    kind: str
    source: str
    is_writable: bool
    driver: dict[str, str]

    @property
    def only_boots(self) -> bool:
        """Whether it is an image that starts a guest or installs it, and that nobody writes to."""
        name = self.source.rpartition("/")[2].lower()
        return name.endswith((".iso", ".dmg")) or any(part in name for part in _LOADERS)

    def told(self, **attributes: str) -> Edit:
        """The edit that gives its <driver> attributes."""
        name = {} if "name" in self.driver else {"name": "qemu"}
        return Edit(f"devices/disk({self.name})/driver", name | attributes)


def disks(guest: Guest) -> list[Disk]:
    """The hard disks of a domain, in the order of the XML."""
    found = []
    for disk in guest.xml.iterfind("devices/disk"):
        target, driver, source = map(disk.find, ("target", "driver", "source"))
        if disk.get("device", "disk") != "disk" or target is None:
            continue
        found.append(
            Disk(
                name=target.get("dev", "?"),
                bus=target.get("bus") or _usual_bus(target),
                kind=disk.get("type", "file"),
                source=_source(source),
                is_writable=disk.find("readonly") is None,
                driver=_attributes(driver),
            )
        )
    return found


def _usual_bus(target: "_Element") -> str:
    """What libvirt takes where none is named, by the letters of the target."""
    buses = {"hd": "ide", "sd": "scsi", "vd": "virtio", "xvd": "xen", "fd": "fdc"}
    return buses.get(target.get("dev", "").rstrip("abcdefghijklmnopqrstuvwxyz")[:3], "") or next(
        (bus for start, bus in buses.items() if target.get("dev", "").startswith(start)), "ide"
    )


def _attributes(driver: "_Element | None") -> dict[str, str]:
    if driver is None:
        return {}
    return {str(name): str(value) for name, value in driver.attrib.items()}


def _source(source: "_Element | None") -> str:
    return "" if source is None else source.get("dev") or source.get("file") or ""


def _names(found: list[Disk]) -> str:
    return f"disk{'s' * (len(found) > 1)} {', '.join(one.name for one in found)}"


@guest_rule(
    "disk-unstable-name",
    "warning",
    why="The kernel numbers disks in the order in which it finds them. After a disk is added, or "
    "by chance, the name may stand for another disk, and the guest writes to that one.",
    source="udev(7); https://wiki.archlinux.org/title/Persistent_block_device_naming",
)
def unstable(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [one for one in disks(guest) if _UNSTABLE.fullmatch(one.source)]
    if found:
        shown = ", ".join(one.source for one in found)
        are, what, disk, its = (
            ("are", "names that", "other disks", "their names")
            if len(found) > 1
            else ("is", "a name that", "another disk", "its name")
        )
        yield Seen(
            f"the {_names(found)} of the guest {are} {shown}, {what} may belong to {disk} after "
            f"the next boot",
            f"{its} in /dev/disk/by-id: ls -l /dev/disk/by-id | grep {found[0].source[5:]}",
        )


@guest_rule(
    "disk-cache-unsafe",
    "warning",
    why="With cache='unsafe' QEMU never flushes. If the host stops, data that the guest believes "
    "to be on disk is lost, and possibly its file system with it.",
    source="https://www.qemu.org/docs/master/system/qemu-block-drivers.html",
)
def unsafe(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [one for one in disks(guest) if one.driver.get("cache") == "unsafe"]
    if found:
        yield Seen(
            f"the {_names(found)} {'have' if len(found) > 1 else 'has'} cache='unsafe'",
            edits=tuple(
                one.told(cache="none" if one.kind == "block" else "writeback") for one in found
            ),
        )


@guest_rule(
    "disk-io-cache",
    "error",
    why="io='native' needs a disk that is opened without the host's page cache. Otherwise QEMU "
    "does not start.",
    source="QEMU's block/file-posix.c, aio=native requires cache.direct=on",
)
def native(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [
        one
        for one in disks(guest)
        if one.driver.get("io") == "native" and one.driver.get("cache", "default") not in _UNCACHED
    ]
    if found:
        named = (one.driver.get("cache", "the default cache") for one in found)
        caches = " or ".join(dict.fromkeys(named))
        yield Seen(
            f"the {_names(found)} {'have' if len(found) > 1 else 'has'} io='native' with {caches}",
            edits=tuple(one.told(cache="none") for one in found),
        )


@guest_rule(
    "disk-bus",
    "warning",
    why="With emulated IDE and SATA the guest is left several times for each request. virtio is "
    "made for virtual machines.",
    source=_GUIDE,
)
def bus(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [one for one in disks(guest) if passed(patient, guest) and one.bus in _SLOW_BUSES]
    if found and _wants_virtio(guest):
        yield Seen(
            f"the {_names(found)} {'are' if len(found) > 1 else 'is'} on an emulated "
            f"{found[0].bus} bus",
            f"{_free_name(guest)}, and no <address> of its own\n"
            "In a Windows guest, first install the driver (virtio-win) while a second, small "
            "virtio disk is attached. Otherwise it does not boot.",
        )


def _wants_virtio(guest: Guest) -> bool:
    """Whether virtio's devices suit the guest: macOS has few drivers for them, and a guest that
    must not see that it is virtual is not to have any."""
    return not is_macos(guest) and not hides_hypervisor(guest)


def _free_name(guest: Guest) -> str:
    taken = {one.get("dev") for one in guest.xml.iterfind("devices/disk/target")}
    name = next(
        f"vd{letter}"
        for letter in "abcdefghijklmnopqrstuvwxyz"
        if f"vd{letter}" not in taken or letter == "z"
    )
    return f"<target dev='{name}' bus='virtio'/>"


@guest_rule(
    "disk-cache",
    "hint",
    why="Without the host's page cache, no data is in memory twice, and the guest does not have "
    "to wait while a full cache is written back.",
    source=_GUIDE,
    sure="likely",
)
def cache(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [
        one
        for one in (disks(guest) if is_tuned(patient, guest) else ())
        if one.driver.get("cache") in (None, "default")
        and one.kind in ("block", "file")
        and one.driver.get("io") != "native"
        and not one.only_boots
    ]
    if found:
        files = any(one.kind == "file" for one in found)
        yield Seen(
            f"the {_names(found)} {'go' if len(found) > 1 else 'goes'} through the host's page "
            "cache",
            "unless its file system needs it, as tmpfs does" if files else "",
            tuple(one.told(cache="none") for one in found),
            by_hand=files,
        )


@guest_rule(
    "disk-discard",
    "hint",
    why="With discard, space that the guest frees becomes free on the host: the image does not "
    "grow forever, and the SSD stays fast.",
    source=_GUIDE,
)
def discard(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [
        one
        for one in (disks(guest) if passed(patient, guest) else ())
        if one.bus in ("virtio", "scsi", "sata")
        and one.kind in ("block", "file")
        and one.is_writable
        and not one.only_boots
        and "discard" not in one.driver
    ]
    if found:
        yield Seen(
            f"what the guest deletes on the {_names(found)} stays on the host",
            edits=tuple(one.told(discard="unmap") for one in found),
        )


@guest_rule(
    "nic-model",
    "hint",
    why="With an emulated network card the guest is left for every packet.",
    source="network-interfaces",
)
def nic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not passed(patient, guest) or not _wants_virtio(guest):
        return
    models = []
    for interface in guest.xml.iterfind("devices/interface"):
        model = interface.find("model")
        # One of a pool of VFs is of the type "network", and has no model.
        if interface.get("type") not in ("hostdev", "vdpa") and model is not None:
            models.append(model.get("type", "QEMU's default"))
    slow = [name for name in models if not name.startswith("virtio")]
    if slow:
        yield Seen(
            f"a network card is an emulated one ({', '.join(dict.fromkeys(slow))})",
            "<model type='virtio'/>, after its driver is in a Windows guest (virtio-win)",
        )


RULES = (native, unsafe, unstable, bus, cache, discard, nic)
