"""Disks and network cards: how they are attached, and who does their work."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import passed, whole
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.devices import iothread_ids
from vfio_hooks.domain.editing import Fix, add, reach

if TYPE_CHECKING:
    from lxml.etree import _Element

_GUIDE = "guide: Virtio-Block tuning"
_UNCACHED = ("none", "directsync")
_OF_QEMU = ("block", "file", "network", "volume")


def _disks(patient: Patient, guest: Guest) -> Iterator[tuple[str, str, "_Element"]]:
    """Name, bus and element of each hard disk of a domain that is given devices; others have no
    need to be fast."""
    if not passed(patient, guest):
        return
    for disk in guest.xml.iterfind("devices/disk"):
        target = disk.find("target")
        if disk.get("device", "disk") == "disk" and target is not None:
            yield target.get("dev", "?"), target.get("bus", "ide"), disk


def _driver(disk: "_Element", name: str) -> str | None:
    driver = disk.find("driver")
    return None if driver is None else driver.get(name)


def _is_block(disk: "_Element") -> bool:
    return disk.get("type") == "block"


@guest_rule(
    "disk-bus",
    "warning",
    why="Emulated IDE, SATA and USB leave the guest several times for each request; virtio is "
    "made for it.",
    source=_GUIDE,
)
def bus(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for name, bus, _ in _disks(patient, guest):
        if bus in ("ide", "sata", "usb", "fdc"):
            yield Seen(
                f"the disk {name} is on an emulated {bus} bus",
                "<target dev='vda' bus='virtio'/>\nFirst install the driver in a Windows guest "
                "(virtio-win), with a second, small virtio disk attached; else it does not boot.",
            )


@guest_rule(
    "disk-iothread",
    "hint",
    why="Without a thread of its own, a disk's requests wait in QEMU's main loop for everything "
    "else that it does.",
    source="guide: IO Threads and IO Thread Pin",
)
def iothread(patient: Patient, guest: Guest) -> Iterator[Seen]:
    used = [whole(one.get("iothread")) for one in guest.xml.iterfind("devices//driver")]
    count = len(iothread_ids(guest.xml))
    free = next(one for one in range(1, len(used) + count + 2) if one not in used)
    threads = f"<iothreads>{max(count, free)}</iothreads> in <domain>, and in the"
    for name, bus, disk in _disks(patient, guest):
        # The newer <iothreads> below the driver names several; other types do without QEMU.
        if disk.find("driver/iothreads") is not None or disk.get("type") not in _OF_QEMU:
            continue
        if bus == "virtio" and _driver(disk, "iothread") is None:
            yield Seen(
                f"the disk {name} has no iothread",
                f"{threads} <disk> of {name}: <driver name='qemu' iothread='{free}'/>",
                _own_thread(partial(_disk, name=name), "qemu"),
            )
    has_scsi = any(bus == "scsi" for _, bus, _ in _disks(patient, guest))
    if has_scsi and _idle_scsi(guest.xml) is not None:
        yield Seen(
            "a virtio-scsi controller has no iothread",
            f"{threads} <controller type='scsi'>: <driver iothread='{free}'/>",
            _own_thread(_idle_scsi),
        )


def _idle_scsi(root: "_Element") -> "_Element | None":
    """A controller of disks that has no iothread."""
    for one in root.iterfind("devices/controller[@type='scsi'][@model='virtio-scsi']"):
        if _driver(one, "iothread") is None:
            return one
    return None


def _own_thread(find: "Callable[[_Element], _Element | None]", name: str = "") -> Fix:
    """A fix that gives what is found an iothread of its own, by its <driver>, called `name`."""

    def fix(root: "_Element") -> None:
        disk = find(root)
        if disk is None:
            return
        used = {one.get("iothread") for one in root.iterfind("devices//driver")}
        numbers = iothread_ids(root)
        free = next((one for one in numbers if str(one) not in used), None)
        if free is None:
            free = next(one for one in range(1, len(numbers) + 2) if one not in numbers)
            _one_more(root, free, len(numbers))
        reach(disk, "driver").set("iothread", str(free))
        if name and _driver(disk, "name") is None:
            reach(disk, "driver").set("name", name)

    return fix


def _one_more(root: "_Element", number: int, count: int) -> None:
    threads = root.find("iothreads")
    (add(root, "iothreads") if threads is None else threads).text = str(count + 1)
    if root.find("iothreadids") is not None:
        add(reach(root, "iothreadids"), "iothread").set("id", str(number))


@guest_rule(
    "disk-iothread-shared",
    "hint",
    why="Two fast disks on one iothread wait for each other.",
    source="guide: IO Threads and IO Thread Pin",
    sure="possible",
)
def shared(patient: Patient, guest: Guest) -> Iterator[Seen]:
    users: dict[str, list[str]] = {}
    for name, _, disk in _disks(patient, guest):
        if number := _driver(disk, "iothread"):
            users.setdefault(number, []).append(name)
    for number, names in users.items():
        if len(names) > 1:
            yield Seen(
                f"iothread {number} serves the disks {', '.join(names)}",
                f"one more in <iothreads>, and in the <disk> of {names[1]}: "
                f"<driver name='qemu' iothread='{len(iothread_ids(guest.xml)) + 1}'/>",
            )


@guest_rule(
    "disk-cache",
    "hint",
    why="Without the host's page cache nothing is kept in memory twice, and a full cache does not "
    "stop the guest while it is written back.",
    source=_GUIDE,
    sure="likely",
)
def cache(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for name, _, disk in _disks(patient, guest):
        if _driver(disk, "cache") in (None, "default") and disk.get("type") in ("block", "file"):
            yield Seen(
                f"the disk {name} goes through the host's page cache",
                f"in the <disk> of {name}: <driver name='qemu' cache='none'/>"
                + ("" if _is_block(disk) else ", if its file system can do without (tmpfs cannot)"),
                _with(name, "cache", "none") if _is_block(disk) else None,
            )


@guest_rule(
    "disk-io",
    "hint",
    why="The kernel's own asynchronous requests cost less than a pool of threads that wait.",
    source="forum: Increasing VFIO VGA Performance",
    sure="possible",
)
def io(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for name, _, disk in _disks(patient, guest):
        if _is_block(disk) and _driver(disk, "cache") in _UNCACHED and not _driver(disk, "io"):
            yield Seen(
                f"the disk {name} is read and written by a pool of threads",
                f"in the <disk> of {name}: <driver name='qemu' cache='none' io='native'/>",
                _with(name, "io", "native"),
            )


@guest_rule(
    "disk-discard",
    "hint",
    why="What the guest deletes then becomes free on the host: the image does not grow for ever, "
    "and the SSD stays fast.",
    source=_GUIDE,
)
def discard(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for name, bus, disk in _disks(patient, guest):
        if bus not in ("virtio", "scsi", "sata") or _driver(disk, "discard") is not None:
            continue
        if disk.get("type") in ("block", "file") and disk.find("readonly") is None:
            yield Seen(
                f"what the guest deletes on the disk {name} stays on the host",
                f"in the <disk> of {name}: <driver name='qemu' discard='unmap'/>",
                _with(name, "discard", "unmap"),
            )


@guest_rule(
    "nic-model",
    "hint",
    why="An emulated network card leaves the guest for every packet.",
    source="network-interfaces",
)
def nic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not passed(patient, guest):
        return
    for interface in guest.xml.iterfind("devices/interface"):
        model = interface.find("model")
        # One of a pool of VFs is of the type "network", and has no model.
        if interface.get("type") in ("hostdev", "vdpa") or model is None:
            continue
        name = model.get("type", "QEMU's default")
        if not name.startswith("virtio"):
            yield Seen(
                f"a network card is an emulated one ({name})",
                "<model type='virtio'/>, after its driver is in a Windows guest (virtio-win); or "
                "give the guest a VF of an SR-IOV card",
            )


def _disk(root: "_Element", name: str) -> "_Element | None":
    for disk in root.iterfind("devices/disk"):
        target = disk.find("target")
        if target is not None and target.get("dev", "?") == name:
            return disk
    return None


def _with(name: str, attribute: str, value: str) -> Fix:
    """A fix that gives the driver of the disk `name` an attribute."""

    def fix(root: "_Element") -> None:
        disk = _disk(root, name)
        if disk is not None:
            driver = reach(disk, "driver")
            if driver.get("name") is None:
                driver.set("name", "qemu")
            driver.set(attribute, value)

    return fix


RULES = (bus, iothread, shared, cache, io, discard, nic)
