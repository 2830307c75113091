"""I/O threads: which disks have one of their own, and which threads have nothing to do."""

from collections import Counter
from collections.abc import Iterator

from vfio_hooks.check.domain.disk import Disk, disks
from vfio_hooks.check.domain.facts import is_tuned, whole
from vfio_hooks.check.domain.kind import is_macos
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.devices import iothread_ids, working_iothreads
from vfio_hooks.domain.editing import Edit, put
from vfio_hooks.plural import verb

_SOURCE = "guide: IO Threads and IO Thread Pin"
_OF_QEMU = ("block", "file", "network", "volume")


@guest_rule(
    "iothreads-unused",
    "warning",
    why="An iothread works only for disks and virtio-scsi controllers whose <driver> names it. "
    "All others still wait in QEMU's main loop.",
    source="https://libvirt.org/formatdomain.html#iothreads-allocation",
)
def unused(patient: Patient, guest: Guest) -> Iterator[Seen]:
    idle, loose = _idle(guest), _loose(patient, guest)
    if not idle:
        return
    text = f"no disk is given to iothread {', '.join(map(str, idle))}, so "
    text += f"{'they do' if len(idle) > 1 else 'it does'} nothing"
    if loose:
        yield Seen(f"{text}; {loose} none", edits=_assigned(guest))
        return
    takers = [one.name for one in _without(guest)]
    yield Seen(
        text,
        f"in the <driver> of {takers[0]}: iothread='{idle[0]}'"
        if takers
        else "give it to a virtio disk or a virtio-scsi controller, or remove it",
    )


@guest_rule(
    "disk-iothread",
    "hint",
    why="Without a thread of its own, a disk's requests wait in QEMU's main loop for everything "
    "else that it does.",
    source=_SOURCE,
)
def iothread(patient: Patient, guest: Guest) -> Iterator[Seen]:
    loose = _loose(patient, guest)
    # If a thread does nothing, the rule above reports both.
    if loose and not _idle(guest):
        yield Seen(f"{loose} no iothread", edits=_assigned(guest))


def _idle(guest: Guest) -> list[int]:
    """The numbers of the threads that do nothing."""
    return sorted(set(iothread_ids(guest.xml)) - working_iothreads(guest.xml))


def _loose(patient: Patient, guest: Guest) -> str:
    """What should have a thread and has none: "the disk vda has"; empty if that is nothing."""
    found, scsi = _without(guest), _scsi(guest)
    if not is_tuned(patient, guest) or is_macos(guest) or not (found or scsi):
        return ""
    names = ", ".join(one.name for one in found)
    named = [f"the disk{'s' * (len(found) > 1)} {names}"] * bool(found)
    named += ["a virtio-scsi controller"] * bool(scsi)
    return f"{' and '.join(named)} {verb(len(found) + bool(scsi), 'has', 'have')}"


def _assigned(guest: Guest) -> tuple[Edit, ...]:
    """The edits that give each of them a thread, and make those that are missing."""
    found, scsi = _without(guest), _scsi(guest)
    count = len(found) + bool(scsi)
    numbers = map(str, _free(guest, count))
    edits = [one.told(iothread=next(numbers)) for one in found]
    edits += [put(f"{scsi}/driver", iothread=next(numbers))] if scsi else []
    return (*_more(guest, count), *edits)


def _without(guest: Guest) -> list[Disk]:
    """The virtio disks that have no thread, without those of types that QEMU does not serve."""
    many = {
        target.get("dev")
        for disk in guest.xml.iterfind("devices/disk")
        if disk.find("driver/iothreads") is not None and (target := disk.find("target")) is not None
    }
    return [
        one
        for one in disks(guest)
        if one.bus == "virtio"
        and "iothread" not in one.driver
        and one.kind in _OF_QEMU
        and one.name not in many
        and not one.only_boots
    ]


def _scsi(guest: Guest) -> str:
    """The path of a controller of disks that has no thread; empty if there is none."""
    if not any(one.bus == "scsi" for one in disks(guest)):
        return ""
    for one in guest.xml.iterfind("devices/controller[@type='scsi'][@model='virtio-scsi']"):
        driver = one.find("driver")
        threads = one.find("driver/iothreads")
        if threads is None and (driver is None or not driver.get("iothread")):
            index = f"[@index='{one.get('index')}']" if one.get("index") else ""
            return f"devices/controller[@type='scsi'][@model='virtio-scsi']{index}"
    return ""


def _free(guest: Guest, count: int) -> list[int]:
    """Numbers of threads that do nothing yet, and of new ones."""
    known, idle = iothread_ids(guest.xml), _idle(guest)
    new = (number for number in range(1, len(known) + count + 1) if number not in known)
    return [*idle, *new][:count]


def _more(guest: Guest, count: int) -> Iterator[Edit]:
    """The edits that make the threads that are missing."""
    known = iothread_ids(guest.xml)
    new = [number for number in _free(guest, count) if number not in known]
    if new:
        yield Edit("iothreads", text=str(len(known) + len(new)))
        if guest.xml.find("iothreadids") is not None:
            for number in new:
                yield Edit(f"iothreadids/iothread[@id='{number}']")


@guest_rule(
    "disk-iothread-shared",
    "hint",
    why="Two fast disks on one iothread wait for each other.",
    source=_SOURCE,
    sure="possible",
)
def shared(patient: Patient, guest: Guest) -> Iterator[Seen]:
    users = Counter(number for one in disks(guest) if (number := one.driver.get("iothread")))
    idle = _idle(guest)
    for number, count in users.items():
        # Only if another thread has nothing to do. Otherwise it may be intended.
        if count > 1 and idle and whole(number) in working_iothreads(guest.xml):
            names = [one.name for one in disks(guest) if one.driver.get("iothread") == number]
            yield Seen(
                f"iothread {number} serves the disks {', '.join(names)}, but iothread {idle[0]} "
                f"serves none",
                edits=(Edit(f"devices/disk({names[1]})/driver", {"iothread": str(idle[0])}),),
                by_hand=True,
            )


RULES = (unused, iothread, shared)
