"""What vfio-hooks has changed for a VM, on disk before it is changed.

A journal is lines of JSON that are only ever appended, and synced. The claim of a step is written
before its kernel write, so the file alone shows whatever a crash left undone or half done. That a
write is done is only written together with the next record. Until then the file says that a crash
may have left the value anywhere between old and new, and undoing is right for that, too. A last
line that a crash tore is ignored. Nothing in a journal is evaluated or imported.
"""

from __future__ import annotations

import json
import os
from enum import Enum
from zlib import crc32

from vfio_hooks.engine.disk import Disk, read
from vfio_hooks.errors import HookError, reason
from vfio_hooks.record import record, replace
from vfio_hooks.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
SUFFIX = ".journal"
BEGIN = b'{"record":"begin",'
CLAIM = b'{"record":"claim","key":'
END = b'{"record":"end","last":'
WAITING = b'{"record":"waiting",'
SUM = b',"sum":'
"""How records of these kinds begin in the file, and where an "end" has its checksum."""


class State(Enum):
    """How far a claim is. While it is PENDING or UNDOING, a crash may have left its value anywhere
    between old and new."""

    PENDING = "pending"  # in the journal; its write failed, or is not known to be done
    HELD = "held"  # its write is done
    UNDOING = "undoing"  # its write back failed, or is not known to be done
    WAITING = "waiting"  # its undo was due, and waits until its CPU is online again
    LOST = "lost"  # somebody else has changed the value since, so it is theirs now
    UNDONE = "undone"


_LATE = (State.HELD, State.UNDONE)
_RECORDS = {state.value: state for state in State}


@record
class Claim:
    """A step that was carried out for a VM. `number` orders the claims of all VMs; times do not, as
    the clock may jump. `base` is the host's own value, "" if there is none to read."""

    number: int
    vm: str
    uuid: str
    event: str
    time: float
    step: Step
    base: str
    state: State = State.PENDING
    goal: str | None = None
    """What an undo that has begun will write, or the CPUs that it waits for; None if no undo has
    begun, or if it has to begin anew."""

    def marked(self, record: dict[str, Any]) -> Claim:
        """The claim, as a later record of it changes it."""
        own = self.number, self.vm, self.uuid, self.event, self.time, self.step, self.base
        return Claim(*own, _RECORDS[record["record"]], record["goal"])


def as_claim(record: dict[str, Any], uuid: str, vm: str) -> Claim:
    """The claim that was written as this record. Raises HookError, and other exceptions for a
    record that is malformed."""
    return Claim(
        number=int(record["number"]),
        vm=vm,
        uuid=uuid,
        event=str(record["event"]),
        time=float(record["time"]),
        step=Step.from_json(record["step"]),
        base=str(record["base"]),
    )


def encoded(value: Any) -> bytes:
    """JSON as it is in a journal."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


class Journal:
    """One VM's file, and the claims that its records add up to."""

    def __init__(self, path: str, uuid: str, vm: str, disk: Disk) -> None:
        self.path = path
        self._disk = disk
        self.uuid = uuid
        self.vm = vm
        self.names: set[str] = set()
        """The names that the VM has had in these records."""
        self.claims: dict[int, Claim] = {}
        self.event: str | None = None
        """The event that has begun and not ended: it crashed, unless it is running now."""
        self.opened = 0
        """The number of the first claim that the event which began last could have made."""
        self.has_started = False
        """Whether the guest has been started with these claims."""
        self._sum = 0
        """The checksum of the file's whole lines."""
        self._waiting = b""
        """Records that are written together with the next one."""

    @classmethod
    def load(cls, path: str, disk: Disk) -> Journal:
        """Read a journal. Raises HookError for one that cannot be understood, and Gone if it no
        longer exists: without the lock, its VM may end at any moment."""
        return cls.understood(path, read(path), disk)

    @classmethod
    def understood(cls, path: str, data: bytes, disk: Disk) -> Journal:
        """The journal with these bytes. Raises HookError."""
        journal = cls(path, os.path.basename(path).removesuffix(SUFFIX), "?", disk)
        # Not splitlines: names and values may contain what that takes for the end of a line.
        *whole, torn = data.split(b"\n")
        for number, line in enumerate(whole, 1):
            try:
                journal._replay(json.loads(line.decode()))
            except HookError as error:
                raise HookError(f"{path}:{number}: {error.problem}", error.hint) from None
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise HookError(
                    f"{path}:{number}: damaged journal ({type(error).__name__}: {error})",
                    "the file says what was changed; undo that by hand, then remove the file",
                ) from None
        journal._sum = crc32(data[: len(data) - len(torn)])
        return journal

    def rename(self, vm: str) -> None:
        """Call the VM by its current name: libvirt may have renamed it since."""
        if vm != self.vm:
            self.vm = vm
            self.claims = {number: replace(claim, vm=vm) for number, claim in self.claims.items()}

    def live(self) -> list[Claim]:
        """The claims that still have to be undone, oldest first."""
        return [claim for claim in self.claims.values() if claim.state is not State.UNDONE]

    def only_waits(self) -> bool:
        """Whether everything is undone except what waits for CPUs that are offline."""
        return all(claim.state is State.WAITING for claim in self.live())

    def since_begin(self) -> list[Claim]:
        """The live claims of the event that began last, oldest first."""
        return [claim for claim in self.live() if claim.number >= self.opened]

    def begin(self, event: str, number: int) -> None:
        """Begin an event. Its claims will have this number or higher ones. Raises HookError."""
        record = {"record": "begin", "event": event, "vm": self.vm, "number": number}
        self.append({**record, "journal": VERSION})

    def end(self) -> None:
        """End the event, with a checksum of everything before it in the file. Raises HookError."""
        last = max(self.claims, default=0)
        total = crc32(self._waiting + END + str(last).encode(), self._sum)
        self.append({"record": "end", "last": last, "sum": f"{total:08x}"})

    def claim(self, number: int, event: str, time: float, step: Step, base: str) -> Claim:
        """Write a claim to disk, before its write to the kernel. Raises HookError."""
        self._write(
            {
                "record": "claim",
                "key": step.key,
                "number": number,
                "event": event,
                "time": time,
                "step": step.as_json(),
                "base": base,
            }
        )
        claim = Claim(number, self.vm, self.uuid, event, time, step, base)
        self.claims[number] = claim
        return claim

    def mark(self, claim: Claim, state: State, goal: str | None = None) -> None:
        """Note a claim's new state. Raises HookError."""
        record = {"record": state.value, "number": claim.number, "goal": goal}
        if state in _LATE:
            self._waiting += encoded(record) + b"\n"
            self._replay(record)
        else:
            self.append(record)

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and wait until it is on disk. Raises HookError."""
        self._write(record)
        self._replay(record)

    def remove(self) -> None:
        """Remove the file; the next record makes a new one. Raises HookError."""
        try:
            self._disk.remove(self.path)
            self._sum, self._waiting = 0, b""
        except OSError as error:
            raise HookError(f"{self.path}: cannot be removed: {reason(error)}") from None
        self.event = None

    def _write(self, record: dict[str, Any]) -> None:
        lines = self._waiting + encoded(record) + b"\n"
        try:
            self._disk.append(self.path, lines)
        except OSError as error:
            raise HookError(
                f"{self.path}: cannot write the journal: {reason(error)}",
                "nothing is changed without a journal; free some space, or repair the folder",
            ) from None
        self._sum = crc32(lines, self._sum)
        self._waiting = b""

    def _replay(self, record: dict[str, Any]) -> None:
        kind = record["record"]
        if kind == "begin":
            if record["journal"] != VERSION:
                raise HookError(
                    f"journal version {record['journal']}, this program knows version {VERSION}",
                    "undo it with the version that wrote it",
                )
            self.event = str(record["event"])
            self.rename(str(record["vm"]))
            self.names.add(self.vm)
            self.opened = int(record["number"])
            self.has_started = self.event != "prepare" and (
                self.has_started or self.event == "started"
            )
        elif kind == "end":
            self.event = None
        elif kind == "claim":
            claim = as_claim(record, self.uuid, self.vm)
            self.claims[claim.number] = claim
        else:
            number = int(record["number"])
            self.claims[number] = self.claims[number].marked(record)
