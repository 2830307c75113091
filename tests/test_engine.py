"""What the engine does when its own files, a knob or a signal get in its way."""

import errno
import gc
import os
import signal
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.engine import Engine
from vfio_hooks.engine.disk import Disk, read
from vfio_hooks.engine.journal import Journal, State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder, is_uuid
from vfio_hooks.errors import Asleep, Gone, HookError, Interrupted
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.knobs import Command, IrqAffinity, Knob, PciDriver
from vfio_hooks.knobs.file import File
from vfio_hooks.sharing import Add, Exclusive, Once, Override, Run, Subtract
from vfio_hooks.steps import Step

VM, OTHER = (f"00000000-0000-0000-0000-00000000000{last}" for last in "ab")
SWAP, STAT = File("/proc/sys/vm/swappiness"), File("/proc/sys/vm/stat_interval")
CARD = "0000:04:00.0"
LAMP = Command(("switch", "lamp", "on"), ("switch", "lamp", "off"))


@pytest.fixture
def host() -> Kernel:
    kernel = a_host()
    kernel.files |= {SWAP.path: "60\n", STAT.path: "1\n"}
    return kernel


@pytest.fixture
def folder(memory: Path) -> StateFolder:
    return StateFolder(str(memory))


def begin(engine: Engine, *steps: Step, uuid: str = VM, event: str = "prepare") -> None:
    engine.perform(event, uuid, "vm", lambda _: steps)


def wants(knob: Knob, value: str, required: bool = True) -> Step:
    return Step("test", knob, Override(value), required=required)


def fail(host: Kernel, call: str, failure: BaseException | None) -> None:
    """From now on, let all reads or all writes of one file fail, or none any more."""
    real = getattr(Kernel, call)

    def called(name: str, *more: str) -> Any:
        if failure and name == SWAP.path:
            raise failure
        return real(host, name, *more)

    setattr(host, call, called)


def test_a_plan_without_steps_leaves_no_journal(host: Kernel, folder: StateFolder) -> None:
    begin(Engine(host, folder, Lines()))
    assert folder.uuids() == []
    assert not folder.is_unsettled()


def test_an_event_without_a_step_leaves_the_journal_as_it_is(
    host: Kernel, folder: StateFolder
) -> None:
    engine = Engine(host, folder, Lines())
    begin(engine, event="started")
    assert folder.uuids() == []
    begin(engine, wants(SWAP, "10"))
    path = Path(folder.path) / f"{VM}.journal"
    before = path.read_bytes()
    begin(engine, event="start")
    assert path.read_bytes() == before


def test_what_the_vm_itself_was_lent_is_not_taken_from_it(
    host: Kernel, folder: StateFolder
) -> None:
    """Not even if the host seems to have it again."""
    engine, lent = Engine(host, folder, Lines()), Step("pci", PciDriver(CARD), Exclusive())
    for event in ("prepare", "started", "started"):
        begin(engine, lent, event=event)
    assert [claim.number for claim in folder.load(VM).live()] == [1, 2, 3]


def test_a_rehearsal_tells_what_would_change(host: Kernel, folder: StateFolder) -> None:
    engine, steps = Engine(host, folder, Lines()), [wants(SWAP, "10"), wants(STAT, "9")]
    before = host.state()
    changes = engine.rehearse("prepare", VM, "vm", lambda _: steps)
    assert [change.step for change in changes] == steps
    assert host.state() == before
    assert folder.uuids() == []


def test_the_host_is_looked_at_anew_for_each_event(host: Kernel, folder: StateFolder) -> None:
    engine, seen = Engine(host, folder, Lines()), host.seen
    begin(engine, wants(SWAP, "10"))
    assert host.seen is not seen


def test_at_the_event_stopped_only_what_ends_there_is_undone(
    host: Kernel, folder: StateFolder
) -> None:
    engine = Engine(host, folder, Lines())
    begin(engine, Step("test", SWAP, Override("10"), until="stopped"), wants(STAT, "9"))
    assert engine.undo("stopped", VM) == []
    assert (SWAP.read(host), STAT.read(host)) == ("60", "9")
    assert engine.undo("release", VM) == []
    assert STAT.read(host) == "1"


def test_a_value_that_somebody_else_changed_is_theirs_when_another_vm_starts(
    host: Kernel, folder: StateFolder
) -> None:
    log = Lines()
    engine = Engine(host, folder, log)
    begin(engine, wants(SWAP, "10"))
    host.files[SWAP.path] = "99\n"
    begin(engine, wants(SWAP, "20"), uuid=OTHER)
    assert [claim.state for claim in folder.load(VM).live()] == [State.LOST]
    assert len(log.warnings) == 1
    assert engine.undo("release", VM) == engine.undo("release", OTHER) == []
    assert SWAP.read(host) == "99"


def test_a_lock_that_tells_of_an_event_which_is_over_is_put_right(
    host: Kernel, folder: StateFolder
) -> None:
    engine = Engine(host, folder, Lines())
    engine.recover()
    folder.unsettle()
    engine.recover()
    assert not folder.is_unsettled()


def test_an_event_is_known_to_be_under_way(host: Kernel, folder: StateFolder) -> None:
    """The hook's first half sees that in the lock's file."""
    seen, write = list[bool](), host.write

    def noted(name: str, text: str) -> None:
        seen.append(folder.is_unsettled())
        write(name, text)

    host.write = noted  # type: ignore[method-assign]
    engine = Engine(host, folder, Lines())
    begin(engine, wants(SWAP, "10"))
    assert not folder.is_unsettled()
    engine.undo("release", VM)
    assert not folder.is_unsettled()
    assert seen == [True, True]


def test_a_guest_that_has_started_is_noted_without_any_step(
    host: Kernel, folder: StateFolder
) -> None:
    engine = Engine(host, folder, Lines())
    begin(engine, wants(SWAP, "10"))
    assert not folder.load(VM).has_started
    begin(engine, event="started")
    assert folder.load(VM).has_started


def test_a_last_run_that_was_never_undone_is_so_first(host: Kernel, folder: StateFolder) -> None:
    log = Lines()
    engine = Engine(host, folder, log)
    begin(engine, wants(SWAP, "10"))
    begin(engine, wants(STAT, "9"))
    assert "vm: its last run was never undone: undoing it first" in log.infos
    assert (SWAP.read(host), STAT.read(host)) == ("60", "9")
    assert [claim.step.key for claim in folder.load(VM).live()] == [STAT.key]


def test_a_failure_at_start_tells_what_could_not_be_undone(
    host: Kernel, folder: StateFolder
) -> None:
    host.refuses = {STAT.path}
    engine, write = Engine(host, folder, Lines()), host.write

    def once(name: str, text: str) -> None:
        write(name, text)
        host.refuses.add(name)

    host.write = once  # type: ignore[method-assign]
    with pytest.raises(HookError) as failure:
        begin(engine, wants(SWAP, "10"), wants(STAT, "9"))
    assert failure.value.problem.startswith(f"{STAT.path}: ")
    assert failure.value.hint.startswith(f"could not be undone: {SWAP.path}: ")
    assert [claim.step.key for claim in folder.load(VM).live()] == [SWAP.key]


@pytest.mark.parametrize("at", ["begin", "end"])
def test_a_start_without_a_journal_changes_nothing(host: Kernel, memory: Path, at: str) -> None:
    """The lock's file cannot be written, or there is no room for the first or the last record."""

    class Full(Disk):
        def append(self, path: str, lines: bytes) -> None:
            if f'"record":"{at}"'.encode() in lines:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().append(path, lines)

    folder, log = StateFolder(str(memory), Full()), Lines()
    before = host.state()
    with pytest.raises(HookError, match="cannot write the journal: No space left on device; noth"):
        begin(Engine(host, folder, log), wants(SWAP, "10"))
    assert host.state() == before
    assert folder.uuids() == []
    assert not folder.is_unsettled()


def test_a_step_that_may_fail_is_undone_alone(host: Kernel, folder: StateFolder) -> None:
    log = Lines()
    fail(host, "write", HookError("it is stuck", "kick it"))
    begin(Engine(host, folder, log), wants(STAT, "9"), wants(SWAP, "10", required=False))
    assert log.warnings[0] == "vm: going on without it: it is stuck; kick it"
    assert STAT.read(host) == "9"


def test_a_defect_in_one_undo_does_not_keep_the_others_from_theirs(
    host: Kernel, folder: StateFolder
) -> None:
    log = Lines()
    engine = Engine(host, folder, log)
    begin(engine, wants(STAT, "9"), wants(SWAP, "10"), Step("test", LAMP, Run()))
    fail(host, "read", ZeroDivisionError("a defect"))
    told = f"{SWAP.key}: ZeroDivisionError: a defect"
    assert engine.undo("release", VM) == [told]
    assert log.warnings == [f"vm: {told}"]
    assert STAT.read(host) == "1"
    assert host.ran[-1] == list(LAMP.undo)
    fail(host, "read", None)
    assert engine.undo("release", VM) == []
    assert SWAP.read(host) == "60"


def test_what_is_gone_needs_no_undo(host: Kernel, folder: StateFolder) -> None:
    log = Lines()
    engine = Engine(host, folder, log)
    begin(engine, wants(SWAP, "10"))
    fail(host, "read", Gone("it was pulled out"))
    assert engine.undo("release", VM) == []
    assert log.infos[-1] == "vm: it was pulled out: nothing to undo"
    assert folder.uuids() == []


def test_what_sleeps_is_undone_by_a_later_event(host: Kernel, folder: StateFolder) -> None:
    """Of any VM, once its CPU is online again. That its run was undone is clear until then."""
    log = Lines()
    engine = Engine(host, folder, log)
    begin(engine, wants(SWAP, "10"))
    fail(host, "read", Asleep("CPU 4 is offline"))
    assert engine.undo("release", VM) == ["CPU 4 is offline"]
    assert [claim.state for claim in folder.load(VM).live()] == [State.WAITING]
    begin(engine, wants(STAT, "9"), uuid=OTHER)
    assert [claim.state for claim in folder.load(VM).live()] == [State.WAITING]
    begin(engine)
    assert not any("never undone" in line for line in log.infos)
    fail(host, "read", None)
    engine.recover()
    assert SWAP.read(host) == "60"
    assert folder.uuids() == [OTHER]


def test_what_an_undo_has_no_room_to_note_is_undone(host: Kernel, memory: Path) -> None:
    class Full(Disk):
        def append(self, path: str, lines: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def remove(self, path: str) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

    log = Lines()
    begin(Engine(host, StateFolder(str(memory)), log), wants(SWAP, "10"))
    full = Engine(host, StateFolder(str(memory), Full()), log)
    assert full.undo("release", VM) == []
    assert SWAP.read(host) == "60"
    path = memory / f"{VM}.journal"
    assert f"{path}: cannot be removed: Read-only file system" in log.warnings
    full_disk = f"{path}: cannot write the journal: No space left on device; "
    # The begin of the event, and what the claim was going to become.
    assert len([line for line in log.warnings if line.startswith(full_disk)]) == 2


def test_giving_up_what_a_vm_has_changed(host: Kernel, folder: StateFolder) -> None:
    engine = Engine(host, folder, Lines())
    assert engine.forget(VM) == []
    begin(engine, wants(STAT, "9"), wants(SWAP, "10"), Step("test", LAMP, Run()))
    fail(host, "read", HookError("cannot be read"))
    told = engine.forget(VM)
    assert told[0] == f"vm: forgotten: {STAT.key} stays 9 (its own is 1)"
    assert told[1] == f"vm: forgotten: {SWAP.key} stays as it is (its own is 60)"
    assert told[2].startswith(f"vm: forgotten: {LAMP.key} stays ")
    assert "its own" not in told[2]
    assert folder.uuids() == []
    assert STAT.read(host) == "9"


def test_giving_up_a_journal_that_cannot_be_understood(host: Kernel, folder: StateFolder) -> None:
    path = Path(folder.path) / f"{VM}.journal"
    path.write_text("{\n")
    (told,) = Engine(host, folder, Lines()).forget(VM)
    assert told.startswith(f"{path}:1: damaged journal (")
    assert told.endswith(": removed; what the VM had changed stays")
    assert folder.uuids() == []


@pytest.mark.parametrize("share", [Once("3"), Run()])
def test_what_is_done_is_noted_as_held(
    host: Kernel, folder: StateFolder, share: Once | Run
) -> None:
    begin(Engine(host, folder, Lines()), Step("test", LAMP, share))
    assert len(host.ran) == 1
    assert [claim.state for claim in folder.load(VM).live()] == [State.HELD]


@pytest.mark.parametrize("count", [3, 4])
def test_what_a_start_could_not_change_is_told_in_one_line(
    host: Kernel, folder: StateFolder, count: int
) -> None:
    log = Lines()
    knobs = [IrqAffinity(number) for number in range(40, 40 + count)]
    host.files |= dict.fromkeys([knob.key for knob in knobs], "0-7\n")
    host.managed = {knob.key for knob in knobs}
    begin(Engine(host, folder, log), *(Step("test", knob, Subtract("4")) for knob in knobs))
    assert log.infos[-1].startswith(f"vm: {count} cannot be changed: IRQ 40 ")
    assert log.infos[-1].endswith(" and so on") == (count > 3)
    assert log.infos[-1].count("IRQ") == 3
    assert folder.load(VM).live() == []


def test_a_step_that_is_known_to_fail_is_left_out(host: Kernel, folder: StateFolder) -> None:
    log, none = Lines(), File("/sys/none")
    begin(Engine(host, folder, log), wants(none, "1", required=False), wants(STAT, "9"))
    assert [line.partition(" file")[0] for line in log.warnings] == [
        "vm: going on without it: /sys/none: no such"
    ]
    assert [claim.step.key for claim in folder.load(VM).live()] == [STAT.key]


def test_a_value_that_can_neither_be_put_back_nor_read_is_looked_at_again(
    host: Kernel, folder: StateFolder
) -> None:
    engine = Engine(host, folder, Lines())
    begin(engine, wants(SWAP, "10"))
    write = host.write

    def breaks(name: str, text: str) -> None:
        fail(host, "read", HookError("cannot be read"))
        raise HookError("cannot be written")

    host.write = breaks  # type: ignore[method-assign]
    assert engine.undo("release", VM) == ["cannot be written"]
    assert [claim.state for claim in folder.load(VM).live()] == [State.PENDING]
    host.write = write  # type: ignore[method-assign]
    fail(host, "read", None)
    assert engine.undo("release", VM) == []
    assert SWAP.read(host) == "60"


def test_a_value_that_could_not_be_put_back_and_is_as_it_was_still_counts(
    host: Kernel, folder: StateFolder
) -> None:
    """So if somebody else sets it later, the value is theirs."""
    engine = Engine(host, folder, Lines())
    begin(engine, wants(SWAP, "10"))
    host.refuses = {SWAP.path}
    assert len(engine.undo("release", VM)) == 1
    assert [claim.state for claim in folder.load(VM).live()] == [State.HELD]
    host.refuses = set()
    host.files[SWAP.path] = "99\n"
    assert engine.undo("release", VM) == []
    assert SWAP.read(host) == "99"


def test_two_events_that_were_cut_off_are_both_finished(host: Kernel, folder: StateFolder) -> None:
    for uuid, knob in ((VM, SWAP), (OTHER, STAT)):
        begin(Engine(host, folder, Lines()), wants(knob, "9"), uuid=uuid)
    for uuid in (VM, OTHER):
        folder.load(uuid).begin("release", 9)
    folder.disk.close()
    folder.unsettle()
    log = Lines()
    Engine(host, folder, log).recover()
    assert log.warnings == ["vm: release was cut off: undoing what it did"] * 2
    assert (SWAP.read(host), STAT.read(host)) == ("60", "1")
    assert not folder.is_unsettled()
    assert folder.uuids() == []


# The files.


def test_a_write_that_is_cut_short_is_a_failure(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel writes what there is room for; the next record then begins a line of its own."""
    path, disk, write = memory / "journal", Disk(), os.write
    disk.append(str(path), b"one\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:1]))
        with pytest.raises(OSError, match="No space left on device"):
            disk.append(str(path), b"two\n")
    assert path.read_bytes() == b"one\nt"
    disk.append(str(path), b"three\n")
    assert path.read_bytes() == b"one\nthree\n"


def _open_files() -> int:
    # What earlier tests left to be collected may be closed at any moment.
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("call", ["fsync", "pread"])
def test_a_file_that_fails_does_not_stay_open(
    memory: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path, disk, before = memory / "journal", Disk(), _open_files()
    path.write_bytes(b"torn")

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, fails)
    with pytest.raises(OSError, match="Input/output error"):
        disk.append(str(path), b"one\n")
    assert _open_files() == before


def test_files_are_open_until_they_are_removed_or_closed(memory: Path) -> None:
    disk, before = Disk(), _open_files()
    for name in "abc":
        disk.append(str(memory / name), b"one\n")
    assert _open_files() == before + 3
    disk.remove(str(memory / "a"))
    disk.remove(str(memory / "a"))
    assert _open_files() == before + 2
    assert sorted(os.listdir(memory)) == ["b", "c"]
    disk.close()
    assert _open_files() == before


def test_an_event_leaves_no_file_open(host: Kernel, folder: StateFolder) -> None:
    before = _open_files()
    begin(Engine(host, folder, Lines()), wants(SWAP, "10"))
    assert _open_files() == before


def test_a_stamp_is_an_empty_file_with_a_time(memory: Path) -> None:
    disk, path, before = Disk(), memory / "note", _open_files()
    for at in (1_700_000_000_123_456_789, 0):
        disk.stamp(str(path), at)
        seen = path.stat()
        assert (seen.st_mtime_ns, seen.st_size, seen.st_mode & 0o777) == (at, 0, 0o600)
    assert _open_files() == before


def test_what_is_a_link_is_neither_stamped_nor_appended_to(memory: Path) -> None:
    (memory / "note").symlink_to(memory / "goal")
    with pytest.raises(OSError, match="symbolic link"):
        Disk().stamp(str(memory / "note"), 0)
    with pytest.raises(OSError, match="symbolic link"):
        Disk().append(str(memory / "note"), b"one\n")
    assert not (memory / "goal").exists()


def test_a_journal_that_cannot_be_read(memory: Path) -> None:
    before = _open_files()
    with pytest.raises(Gone, match="this journal does not exist"):
        read(str(memory / "none"))
    for name in ("folder", "pipe"):
        os.mkdir(memory / name) if name == "folder" else os.mkfifo(memory / name)
        with pytest.raises(HookError) as failure:
            read(str(memory / name))
        problem = f"{memory / name}: cannot read the journal: not a regular file"
        assert failure.value.problem == problem
        assert failure.value.hint == "look at what it is, then remove it"
    assert _open_files() == before


# The folder.


def test_a_folder_that_cannot_be_made(memory: Path) -> None:
    (memory / "file").touch()
    with pytest.raises(HookError, match=r"/file/state: cannot make the folder: Not a directory$"):
        StateFolder(str(memory / "file/state")).prepare()


def test_a_folder_of_somebody_else_s(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.lstat(memory).st_uid + 1)
    with pytest.raises(HookError, match="users other than root may write to it; look at what is"):
        StateFolder(str(memory)).prepare()


def test_a_lock_that_is_a_link_is_not_opened(memory: Path) -> None:
    (memory / "lock").symlink_to(memory / "goal")
    with (
        pytest.raises(HookError, match=r"/lock: cannot open the lock: .*; look at what .*/lock is"),
        StateFolder(str(memory)).locked(lambda: None),
    ):
        pass
    assert not (memory / "goal").exists()


def test_a_lock_that_is_held_is_waited_for_and_then_told(memory: Path) -> None:
    asked: list[int] = []
    first, second = StateFolder(str(memory)), StateFolder(str(memory))
    before = _open_files()
    assert not first.is_busy()
    with (
        first.locked(lambda: None),
        pytest.raises(HookError, match=r"another vfio-hooks has held it for 0.1 s; fuser .*/lock"),
        second.locked(lambda: asked.append(1), seconds=0.1),
    ):
        pass
    assert asked
    assert _open_files() == before
    assert not first.is_busy()
    with second.locked(lambda: None):
        assert first.is_busy()


def test_an_unsettled_folder(memory: Path) -> None:
    folder = StateFolder(str(memory))
    assert not folder.is_unsettled()
    with pytest.raises(HookError, match=r"/lock: cannot write there: No such file or directory$"):
        folder.unsettle()
    with folder.locked(lambda: None):
        folder.unsettle()
    assert folder.is_unsettled()
    assert (memory / "lock").read_bytes() == b"\0"
    folder.settle()
    assert not folder.is_unsettled()


def test_a_folder_that_stays_unsettled_is_no_failure(memory: Path) -> None:
    class Stuck(Disk):
        def resize(self, path: str, size: int) -> None:
            if not size:
                raise OSError(errno.EIO, "Input/output error")
            super().resize(path, size)

    folder = StateFolder(str(memory), Stuck())
    with folder.locked(lambda: None):
        folder.unsettle()
        folder.settle()
    assert folder.is_unsettled()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11", True),
        ("6B7B8A1E-7c5e-4d0f-9a55-3f1d2a9a7c11", False),
        ("6b7b8a1e7c5e-4d0f-9a55-3f1d2a9a7c11", False),
        ("6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c1", False),
        ("6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c1g", False),
        ("../../etc/passwd", False),
        ("", False),
    ],
)
def test_what_is_a_uuid(memory: Path, text: str, expected: bool) -> None:
    assert is_uuid(text) is expected
    folder = StateFolder(str(memory))
    if expected:
        assert folder.create(text, "vm").path == f"{memory}/{text}.journal"
    else:
        with pytest.raises(HookError, match="is not a domain's UUID"):
            folder.create(text, "vm")


def test_which_vms_have_a_journal(memory: Path) -> None:
    assert StateFolder(str(memory / "none")).uuids() == []
    folder = StateFolder(str(memory))
    for uuid, names in ((OTHER, ("b",)), (VM, ("a", "new"))):
        journal = folder.create(uuid, "")
        for name in names:
            journal.vm = name
            journal.begin("prepare", 1)
    for name in ("lock", "x.journal", f"{VM}.journal.bak"):
        (memory / name).touch()
    assert folder.uuids() == [VM, OTHER]
    assert [folder.find(name) for name in ("a", "b", "new", "c")] == [[VM], [OTHER], [VM], []]
    (memory / f"{VM}.journal").write_text("{\n")
    assert [folder.find(name) for name in ("a", "b")] == [[], [OTHER]]


# Journals and the ledger.


def test_a_journal_counts_its_claims_from_the_event_that_began_last(
    host: Kernel, folder: StateFolder
) -> None:
    engine = Engine(host, folder, Lines())
    begin(engine, wants(SWAP, "10"))
    begin(engine, wants(STAT, "9"), event="start")
    journal = folder.load(VM)
    assert journal.opened == 2
    assert [claim.number for claim in journal.since_begin()] == [2]
    assert [claim.number for claim in journal.live()] == [1, 2]
    assert (journal.claims[2].event, journal.claims[2].base) == ("start", "1")


def test_a_guest_that_has_started_stays_so_until_the_next_prepare(memory: Path) -> None:
    journal = Journal(str(memory / "journal"), VM, "vm", Disk())
    seen = []
    for event in ("prepare", "start", "started", "stopped", "prepare"):
        journal.begin(event, 1)
        seen.append(journal.has_started)
    assert seen == [False, False, True, True, False]


def test_a_journal_that_loses_a_value_while_it_is_sealed(host: Kernel, folder: StateFolder) -> None:
    """Somebody else changed the value of two VMs: both lose it, and only a damaged one cannot."""
    engine, log = Engine(host, folder, Lines()), Lines()
    pages = File("/sys/pages")
    host.files[pages.path] = "4\n"
    for uuid in (VM, OTHER):
        begin(engine, Step("test", pages, Add(2)), uuid=uuid)
    host.files[pages.path] = "1\n"
    assert Engine(host, folder, log).undo("release", VM) == []
    assert len(log.warnings) == 2
    assert all("somebody else has set it to 1 since" in line for line in log.warnings)
    assert Ledger(folder).on(pages.key) == []
    assert pages.read(host) == "1"


def test_a_journal_that_only_seems_whole(host: Kernel, folder: StateFolder) -> None:
    """It has a step of a newer version. Claims on other keys can be found and given up anyway."""
    begin(Engine(host, folder, Lines()), wants(STAT, "9"), wants(SWAP, "9"))
    path = Path(folder.path) / f"{VM}.journal"
    data = path.read_bytes().replace(
        b'"kind":"file","path":"/proc/sys/vm/swap', b'"kind":"new","path":"'
    )
    start = data[: data.rfind(b',"sum":')]
    path.write_bytes(start + b',"sum":"%08x"}\n' % crc32(start))
    ledger = Ledger(folder)
    assert not ledger.damaged
    assert [claim.vm for claim in ledger.on(STAT.key)] == ["vm"]
    ledger.lose(STAT.key)
    assert ledger.find(VM) is None
    (problem,) = Engine(host, folder, Lines()).undo("release", VM)
    assert "does not know" in problem
    assert problem.startswith(f"{path}:4: ")


def test_the_journals_after_a_damaged_one_are_read(host: Kernel, folder: StateFolder) -> None:
    log = Lines()
    begin(Engine(host, folder, log), wants(SWAP, "10"), uuid=OTHER)
    damaged = Path(folder.path) / f"{VM}.journal"
    damaged.write_text("{\n")
    assert [claim.uuid for claim in Ledger(folder).on(SWAP.key)] == [OTHER]
    assert Engine(host, folder, log).undo("release", OTHER) == []
    assert [line.partition(": damaged")[0] for line in log.warnings] == [f"{damaged}:1"]


def test_each_change_is_told(host: Kernel, folder: StateFolder) -> None:
    """A change that takes long also says how far it is."""

    class Slow(File):
        def _write(self, host: WritableHost, value: str) -> None:
            host.tell("half of it so far")
            super()._write(host, value)

    log = Lines()
    begin(Engine(host, folder, log), wants(Slow(SWAP.path), "10"), Step("test", LAMP, Run()))
    assert log.infos == [
        "vm: half of it so far",
        f"vm: test: {SWAP.key}: 60 → 10",
        f"vm: test: {LAMP.key}: done",
    ]


def test_what_somebody_has_in_use_is_waited_for_before_it_is_changed(
    host: Kernel, folder: StateFolder
) -> None:
    class InUse(File):
        def ready(self, host: Host) -> None:
            raise HookError("somebody has it open")

    with pytest.raises(HookError, match="somebody has it open"):
        begin(Engine(host, folder, Lines()), wants(InUse(SWAP.path), "10"))
    assert SWAP.read(host) == "60"
    assert folder.uuids() == []


def test_a_forgotten_vm_takes_its_claims_along(host: Kernel, folder: StateFolder) -> None:
    engine = Engine(host, folder, Lines())
    pages = File("/sys/pages")
    host.files[pages.path] = "4\n"
    for uuid in (VM, OTHER):
        begin(engine, Step("test", pages, Add(2)), uuid=uuid)
    ledger = Ledger(folder).read_all()
    ledger.forget(VM)
    assert [claim.uuid for claim in ledger.on(pages.key)] == [OTHER]
    assert list(ledger.journals) == [OTHER]


def test_a_signal_between_two_steps_undoes_the_first(host: Kernel, folder: StateFolder) -> None:
    engine, write = Engine(host, folder, Lines()), host.write
    written: list[str] = []

    def interrupted(name: str, text: str) -> None:
        written.append(name)
        os.kill(os.getpid(), signal.SIGHUP)
        write(name, text)

    host.write = interrupted  # type: ignore[method-assign]
    handler = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(Interrupted, match="stopped by SIGHUP; what was done so far has been"):
            begin(engine, wants(SWAP, "10"), wants(STAT, "9"))
    finally:
        signal.signal(signal.SIGHUP, handler)
    assert written == [SWAP.path, SWAP.path]
    assert SWAP.read(host) == "60"
