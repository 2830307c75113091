"""What vfio-hooks has changed for a VM, on disk before it is changed.

A journal is lines of JSON that are only ever appended, each in one write and synced. The claim
of a step is written before its kernel write, so whatever a crash left undone or half done can
be told from the file alone. A last line that a crash tore is ignored. Nothing in a journal is
evaluated or imported.
"""

import errno
import json
import os
import stat
from enum import Enum
from typing import Any

from vfio_hooks.errors import Gone, HookError, reason
from vfio_hooks.record import record, replace
from vfio_hooks.steps import Step

VERSION = 1
SUFFIX = ".journal"


class State(Enum):
    """Where a claim stands. While it is PENDING or UNDOING a crash may have left its
    value anywhere on the way."""

    PENDING = "pending"  # journaled, the kernel write not known to be done
    HELD = "held"  # done
    UNDOING = "undoing"  # the write back not known to be done, or known to have failed
    WAITING = "waiting"  # its undo was due, and has to wait until its CPU is online again
    LOST = "lost"  # somebody else changed the value since: it is theirs now
    UNDONE = "undone"


_RECORDS = {state.value: state for state in State if state is not State.PENDING}


@record
class Claim:
    """A step that a VM has had carried out. `number` orders the claims of all VMs; the clock
    does not, as it may jump. `base` is the host's own value, "" where there is none to read."""

    number: int
    vm: str
    uuid: str
    event: str
    time: float
    step: Step
    base: str
    state: State = State.PENDING
    goal: str | None = None
    """What an undo that began was going to write; None when none has begun."""


class Disk:
    """The ways in which the files of a state folder change."""

    def append(self, path: str, line: bytes) -> None:
        """Add a line and wait until it is on disk. Raises OSError."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                # A crash tore the last line. Cut it off, or this record would become part of it.
                whole = os.pread(descriptor, size, 0).rfind(b"\n") + 1
                os.ftruncate(descriptor, whole)
            if os.write(descriptor, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def remove(self, path: str) -> None:
        """Remove a file that may be gone already. Raises OSError."""
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def stamp(self, path: str, at: int) -> None:
        """Make an empty file with a time of change (ns since 1970). Raises OSError."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        os.utime(path, ns=(at, at))

    def resize(self, path: str, size: int) -> None:
        """Give a file this many bytes, zeros where it had fewer: they take no room, so this works
        on a full disk, too. Raises OSError."""
        os.truncate(path, size)


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
        """Whether the guest runs, or has run, with what was claimed for it."""

    @classmethod
    def load(cls, path: str, disk: Disk) -> "Journal":
        """Read a journal. Raises HookError for one that cannot be understood, and Gone where it is
        not there any more: who reads without the lock may meet the end of a VM."""
        uuid = os.path.basename(path).removesuffix(SUFFIX)
        try:
            with open(path, encoding="utf-8", opener=_open_plain) as file:
                text = file.read()
        except FileNotFoundError:
            raise Gone(f"{path}: there is no such journal") from None
        except (OSError, UnicodeDecodeError) as error:
            why = reason(error) if isinstance(error, OSError) else "it is not UTF-8"
            raise HookError(
                f"{path}: cannot read the journal: {why}", "see what it is, then remove it"
            ) from None
        # Not splitlines: in names and values may be what that takes for the end of a line.
        *whole, _torn = text.split("\n")
        journal = cls(path, uuid, "?", disk)
        for number, line in enumerate(whole, 1):
            try:
                journal._replay(json.loads(line))
            except HookError as error:
                raise HookError(f"{path}:{number}: {error.problem}", error.hint) from None
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise HookError(
                    f"{path}:{number}: damaged journal ({type(error).__name__}: {error})",
                    "its file says what was changed; put that back by hand, then remove it",
                ) from None
        return journal

    def rename(self, vm: str) -> None:
        """Speak of the VM by the name that it has now: libvirt may have renamed it since."""
        if vm != self.vm:
            self.vm = vm
            self.claims = {number: replace(claim, vm=vm) for number, claim in self.claims.items()}

    def live(self) -> list[Claim]:
        """The claims that still have to be undone, oldest first."""
        return [claim for claim in self.claims.values() if claim.state is not State.UNDONE]

    def since_begin(self) -> list[Claim]:
        """The live claims of the event that began last, oldest first."""
        return [claim for claim in self.live() if claim.number >= self.opened]

    def begin(self, event: str, number: int) -> None:
        """Open an event; its claims will have this number or a higher one."""
        self.append(
            {
                "record": "begin",
                "event": event,
                "vm": self.vm,
                "number": number,
                "journal": VERSION,
            }
        )

    def end(self) -> None:
        self.append({"record": "end"})

    def claim(self, number: int, event: str, time: float, step: Step, base: str) -> Claim:
        """Put a claim on disk, before anything is written to the kernel for it."""
        self.append(
            {
                "record": "claim",
                "number": number,
                "event": event,
                "time": time,
                "step": step.as_json(),
                "base": base,
            }
        )
        return self.claims[number]

    def mark(self, claim: Claim, state: State, goal: str | None = None) -> None:
        self.append({"record": state.value, "number": claim.number, "goal": goal})

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and wait until it is on disk. Raises HookError."""
        line = json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"
        try:
            self._disk.append(self.path, line.encode())
        except OSError as error:
            raise HookError(
                f"{self.path}: cannot write the journal: {reason(error)}",
                "nothing is changed without one; make room or mend the folder",
            ) from None
        self._replay(record)

    def remove(self) -> None:
        """Remove the file. Raises HookError."""
        try:
            self._disk.remove(self.path)
        except OSError as error:
            raise HookError(f"{self.path}: cannot be removed: {reason(error)}") from None
        self.event = None

    def _replay(self, record: dict[str, Any]) -> None:
        kind = record["record"]
        if kind == "begin":
            if record["journal"] != VERSION:
                raise HookError(
                    f"journal version {record['journal']}, this program knows {VERSION}",
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
            number = int(record["number"])
            self.claims[number] = Claim(
                number=number,
                vm=self.vm,
                uuid=self.uuid,
                event=str(record["event"]),
                time=float(record["time"]),
                step=Step.from_json(record["step"]),
                base=str(record["base"]),
            )
        else:
            number = int(record["number"])
            self.claims[number] = replace(
                self.claims[number], state=_RECORDS[kind], goal=record["goal"]
            )


def _open_plain(path: str, flags: int) -> int:
    """Open a regular file, and no link or device that was put in its place."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
