"""Journals that are damaged, foreign or in the way, and what the engine does about them."""

import errno
import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.kernel import Lines, a_host
from tests.test_crashes import PLANS
from vfio_hooks.engine import Engine
from vfio_hooks.engine.disk import Disk
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.record import replace
from vfio_hooks.sharing import Exclusive
from vfio_hooks.steps import Step

VM = "00000000-0000-0000-0000-00000000000a"
OTHER = "00000000-0000-0000-0000-00000000000b"


@pytest.fixture
def folder(memory: Path) -> Path:
    return memory / "state"


def start(folder: Path, uuid: str = VM, plan: str = "override") -> tuple[Engine, Path]:
    engine = Engine(a_host(), StateFolder(str(folder)), Lines())
    engine.perform("prepare", uuid, "vm", lambda _: PLANS[plan])
    return engine, folder / f"{uuid}.journal"


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_steps_survive_json(plan: list[Step]) -> None:
    """Except for what it waits for, which is not needed for the undo."""
    for step in plan:
        kept = Step.from_json(json.loads(json.dumps(step.as_json())))
        assert kept == replace(step, awaits="")


def test_only_root_can_read_it(folder: Path) -> None:
    _, journal = start(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert journal.stat().st_mode & 0o777 == 0o600
    assert (folder / "lock").stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_may_only_look_into_is_taken(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    _, journal = start(folder)
    assert journal.exists()


def test_it_is_gone_when_nothing_is_changed_any_more(folder: Path) -> None:
    engine, journal = start(folder)
    engine.undo("release", VM)
    assert not journal.exists()
    engine.undo("release", VM)


DAMAGE = {
    "not JSON": "{what}\n",
    "another version": '{"record":"begin","event":"prepare","vm":"x","number":1,"journal":99}\n',
    "an unknown record": '{"record":"dance","number":1}\n',
    "an unknown knob": '{"record":"claim","number":1,"event":"e","time":0,"base":"",'
    '"step":{"plugin":"p","knob":{"kind":"os.system"},"share":{"kind":"run"},"until":"release"}}\n',
    "not an object": "[]\n",
    "a claim that never was": '{"record":"undone","number":77,"goal":null}\n',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_journal_stops_starts_and_no_undo(folder: Path, damage: str) -> None:
    engine, journal = start(folder)
    other = folder / f"{OTHER}.journal"
    other.write_text(damage)
    with pytest.raises(HookError, match=f"{other}:1: "):
        engine.perform("prepare", VM, "vm", lambda _: PLANS["override"])
    assert engine.undo("release", VM) == []
    assert not journal.exists()
    assert len(engine.undo("release", OTHER)) == 1
    assert other.read_text() == damage


@pytest.mark.parametrize("way", ["symlink", "file", 0o777, 0o720, 0o702])
def test_a_folder_that_others_may_have_made(folder: Path, way: str | int) -> None:
    if way == "symlink":
        folder.symlink_to("/tmp")
    elif way == "file":
        folder.touch()
    elif isinstance(way, int):
        folder.mkdir()
        folder.chmod(way)
    with pytest.raises(HookError, match=str(folder)):
        start(folder)


def test_a_journal_that_is_a_link_is_not_written_through(folder: Path, memory: Path) -> None:
    folder.mkdir(mode=0o700)
    goal = memory / "elsewhere"
    (folder / f"{VM}.journal").symlink_to(goal)
    with pytest.raises(HookError):
        start(folder)
    assert not goal.exists()


@pytest.mark.parametrize("goal", ["/dev/zero", "/dev/full", "/etc/passwd"])
def test_a_link_in_place_of_a_journal_is_not_read(folder: Path, goal: str) -> None:
    folder.mkdir(mode=0o700)
    (folder / f"{VM}.journal").symlink_to(goal)
    with pytest.raises(HookError, match="cannot read the journal"):
        start(folder)


def test_a_record_is_on_disk_before_anything_else_happens(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    path = memory / "journal"
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.read_bytes()))
    disk = Disk()
    disk.append(str(path), b"1\n")
    disk.append(str(path), b"2\n")
    assert synced == [b"1\n", b"1\n2\n"]


@pytest.mark.parametrize("torn", [b"2", b"2\n3", b"2\n\xc3"])
def test_what_is_torn_does_not_become_part_of_the_next_record(memory: Path, torn: bytes) -> None:
    path = memory / "journal"
    path.write_bytes(b"1\n" + torn)
    disk = Disk()
    disk.append(str(path), b"4\n")
    disk.close()
    assert path.read_bytes() == b"1\n" + torn[: torn.rfind(b"\n") + 1] + b"4\n"


class FullDisk(Disk):
    """A disk with room for a number of records."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def append(self, path: str, line: bytes) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(path, line)


@pytest.mark.parametrize("room", range(11))
def test_without_room_nothing_is_left_changed(folder: Path, room: int) -> None:
    kernel = a_host()
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(folder), FullDisk(room)), Lines())
    with pytest.raises(HookError, match="cannot write the journal: No space left on device"):
        engine.perform("prepare", VM, "vm", lambda _: PLANS["a whole evening"])
    assert kernel.state() == before


@pytest.mark.parametrize("torn", ["", '{"record":"begin","eve'])
def test_a_journal_without_a_record_is_none(folder: Path, torn: str) -> None:
    """As a full disk leaves it: nothing was changed, and no VM is kept from starting."""

    class Full(Disk):
        def append(self, path: str, line: bytes) -> None:
            Path(path).write_text(torn)
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(HookError, match="No space left"):
        Engine(a_host(), StateFolder(str(folder), Full()), Lines()).perform(
            "prepare", VM, "vm", lambda _: PLANS["override"]
        )
    journal = folder / f"{VM}.journal"
    assert not journal.exists()
    journal.write_text(torn)
    assert not Ledger(StateFolder(str(folder))).read_all().journals
    engine, _ = start(folder, OTHER)
    assert not journal.exists()
    journal.write_text(torn)
    start(folder)
    assert engine.undo("release", VM) == engine.undo("release", OTHER) == []
    assert [path.name for path in folder.iterdir()] == ["lock"]


def test_a_vm_that_was_renamed_after_a_lost_end(folder: Path) -> None:
    """Its next start is an event with the new name; libvirt keeps the UUID."""
    engine, _ = start(folder)
    state = StateFolder(str(folder))
    lent = [Step("pci", PciDriver("0000:04:00.0"), Exclusive())]
    engine.perform("start", VM, "new", lambda _: lent)
    assert {claim.vm for claim in Ledger(state).read_all().journals[VM].live()} == {"new"}
    assert state.find("vm") == state.find("new") == [VM]
    with pytest.raises(HookError, match="VM new has it; shut down new"):
        engine.perform("prepare", OTHER, "other", lambda _: lent)
    log = Lines()
    Engine(engine.host, state, log).undo("undo", VM, "newest")
    assert log.infos
    assert all(line.startswith("newest: ") for line in log.infos)


def test_a_journal_that_ends_while_it_is_looked_for(folder: Path) -> None:
    """`status` takes no lock: the VM may end between the list of the journals and the look."""

    class Late(StateFolder):
        def uuids(self) -> list[str]:
            return [OTHER, VM]

    start(folder)
    ledger = Ledger(Late(str(folder))).read_all()
    ledger.require_whole()
    assert list(ledger.journals) == [VM]


def test_undoing_needs_no_room(folder: Path) -> None:
    kernel = a_host()
    before = kernel.state()
    Engine(kernel, StateFolder(str(folder)), Lines()).perform(
        "prepare", VM, "vm", lambda _: PLANS["a whole evening"]
    )
    full = Engine(kernel, StateFolder(str(folder), FullDisk(0)), Lines())
    assert full.undo("release", VM) == []
    assert kernel.state() == before


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A VM's journal."""
    _, journal = start(tmp_path_factory.mktemp("state"))
    return journal.read_bytes()


@settings(deadline=None, max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=60), st.integers(0, 400))
def test_any_bytes_are_a_journal_or_an_error(
    folder: Path, whole: bytes, noise: bytes, position: int
) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{VM}.journal").write_bytes(whole[:position] + noise + whole[position:])
    try:
        StateFolder(str(folder)).load(VM)
    except HookError as error:
        assert "\n" not in str(error)


def test_waiting_for_the_lock_can_be_interrupted(folder: Path) -> None:
    """Ctrl-C while another VM's event takes its time."""
    state = StateFolder(str(folder))
    engine = Engine(a_host(), state, Lines())
    with state.locked(lambda: None), pytest.raises(Interrupted), engine.signals.caught():
        os.kill(os.getpid(), signal.SIGINT)
        engine.undo("undo", VM)


def test_a_signal_during_the_last_step_undoes_it(folder: Path) -> None:
    kernel = a_host()
    engine = Engine(kernel, StateFolder(str(folder)), Lines())
    before, write = kernel.state(), kernel.write

    def interrupted(name: str, text: str) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        write(name, text)

    kernel.write = interrupted  # type: ignore[method-assign]
    # One that nobody asked for is let through at the end.
    handler = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            engine.perform("prepare", VM, "vm", lambda _: PLANS["override"])
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert kernel.state() == before
    assert [path.name for path in folder.iterdir()] == ["lock"]
