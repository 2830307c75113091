"""Disks: which of them may be lost or slow; and network cards."""

import re
from collections.abc import Iterator

from vfio_hooks.check.domain.disk import Disk, disks
from vfio_hooks.check.domain.facts import is_tuned, passed
from vfio_hooks.check.domain.kind import hides_hypervisor, is_macos, is_windows, noted_os
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.host import Host

_GUIDE = "guide: Virtio-Block tuning"
_DRIVER = (
    "\nIn a Windows guest, first install the driver (virtio-win) while a second, small virtio disk "
    "is attached. Otherwise it does not boot."
)
_UNCACHED = ("none", "directsync")
_SLOW_BUSES = ("ide", "sata", "fdc")
_UNSTABLE = re.compile(r"/dev/(sd[a-z]+|nvme\d+n\d+(p\d+)?|sd[a-z]+\d+|hd[a-z]\d*)")
"""Names with numbers that the kernel gives out as it finds disks, in an order that may change with
each boot."""


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
    why="With emulated IDE and SATA, each request stops the guest several times, so that QEMU can "
    "act. virtio is made for virtual machines.",
    source=_GUIDE,
)
def bus(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [one for one in disks(guest) if passed(patient, guest) and one.bus in _SLOW_BUSES]
    if found and _wants_virtio(guest):
        yield Seen(
            f"the {_names(found)} {'are' if len(found) > 1 else 'is'} on an emulated "
            f"{found[0].bus} bus",
            f"{_free_name(guest)}, and no <address> of its own" + _DRIVER * _may_be_windows(guest),
        )


def _wants_virtio(guest: Guest) -> bool:
    """Whether virtio's devices suit the guest: macOS has few drivers for them, and a guest that
    must not notice that it is virtual must not have any."""
    return not is_macos(guest) and not hides_hypervisor(guest)


def _may_be_windows(guest: Guest) -> bool:
    return is_windows(guest) or not noted_os(guest)


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
        and _can_discard(patient.host, one)
    ]
    if found:
        yield Seen(
            f"what the guest deletes on the {_names(found)} stays on the host",
            edits=tuple(one.told(discard="unmap") for one in found),
        )


def _can_discard(host: Host, disk: Disk) -> bool:
    """False for a disk that the kernel cannot tell to discard, such as most hard disks."""
    name = host.link(disk.source) or disk.source.rpartition("/")[2]
    return host.maybe(f"/sys/class/block/{name}/queue/discard_max_bytes") != "0"


@guest_rule(
    "nic-model",
    "hint",
    why="With an emulated network card, every packet stops the guest, so that QEMU can act.",
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
            "<model type='virtio'/>"
            + ", after its driver is in a Windows guest (virtio-win)" * _may_be_windows(guest),
        )


RULES = (native, unsafe, unstable, bus, cache, discard, nic)
