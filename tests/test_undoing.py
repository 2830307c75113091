"""How an undo takes one claim back: what it notes, what it tells, and what it leaves alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.engine.disk import Disk
from vfio_hooks.engine.journal import Claim, State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.engine.undoing import Undoing
from vfio_hooks.errors import Asleep, Gone, HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.knobs import Command, Knob
from vfio_hooks.knobs.file import File
from vfio_hooks.log import Folded
from vfio_hooks.sharing import Once, Override, Run, Share, Subtract
from vfio_hooks.steps import Step

VM, OTHER = (f"00000000-0000-0000-0000-00000000000{last}" for last in "ab")
FILE, LOST = File("/sys/value"), "/sys/lost"
LAMP = Command(("switch", "lamp", "on"), ("switch", "lamp", "off"))


class InSteps(File):
    """A value that is changed in several steps, of which the last one fails."""

    atomic = False

    def _write(self, host: WritableHost, value: str) -> None:
        host.tell("the first of two steps")
        raise HookError("the second step failed")


class Forgetful(File):
    """A value out of which the kernel loses some CPUs."""

    def lost(self, value: str, host: Host) -> str:
        return host.maybe(LOST) or ""


class Unreadable(File):
    """A value that cannot be read, for the reason in the file."""

    def read(self, host: Host) -> str:
        raise {"asleep": Asleep, "gone": Gone}[super().read(host)]("cannot be read")


class World:
    """A host with one value, 10, that was 60 before a VM had it."""

    def __init__(self, folder: Path) -> None:
        self.host, self.log, self.folder = Kernel(), Lines(), StateFolder(str(folder))
        self.host.files = {FILE.path: "10\n"}
        self.ledger = Ledger(self.folder)
        self.journal = self.ledger.journal(VM, "vm")
        self.journal.begin("prepare", 1)
        self.undoing = Undoing(self.host, self.ledger, Folded(self.log))

    def holds(
        self,
        knob: Knob,
        share: Share | None = None,
        state: State = State.HELD,
        goal: str | None = None,
        base: str = "60",
    ) -> Claim:
        step = Step("test", knob, share or Override("10"))
        claim = self.ledger.claim(self.journal, "prepare", 0, step, base)
        if state is not State.PENDING:
            self.journal.mark(claim, state, goal)
        return self.journal.claims[claim.number]

    def undo(self, *claims: Claim) -> list[str]:
        return self.undoing.undo(self.journal, list(claims))

    def now(self, claim: Claim) -> tuple[State, str | None]:
        found = self.journal.claims[claim.number]
        return found.state, found.goal


@pytest.fixture
def world(memory: Path) -> Iterator[World]:
    found = World(memory)
    yield found
    found.folder.disk.close()


def test_a_failure_is_told_and_noted(world: World) -> None:
    claim = world.holds(InSteps(FILE.path))
    assert world.undo(claim) == ["the second step failed"]
    assert world.log.warnings == ["vm: the second step failed"]
    assert world.log.infos == ["vm: the first of two steps"]
    assert world.now(claim) == (State.UNDOING, "60")


def test_what_comes_right_after_all_is_no_problem(world: World) -> None:
    """As a device that the bus finds again after another claim's undo."""
    later = world.holds(InSteps(FILE.path))
    first = world.holds(LAMP, Run(), base="")

    def switched(argv: list[str], seconds: float = 30) -> str:
        world.host.files[FILE.path] = "60\n"
        return ""

    world.host.run = switched  # type: ignore[method-assign]
    assert world.undo(first, later) == []
    assert world.log.infos[-1] == f"vm: {FILE.key}: 60 after all"
    assert world.now(later)[0] is world.now(first)[0] is State.UNDONE


@pytest.mark.parametrize("share", [Run(), Once("3")])
def test_what_was_done_is_noted_as_undone(world: World, share: Run | Once) -> None:
    """What has no inverse is left as it is, though it could be read."""
    claim = world.holds(LAMP if isinstance(share, Run) else FILE, share, base="")
    assert world.undo(claim) == []
    assert world.now(claim) == (State.UNDONE, None)
    assert world.host.ran == ([list(LAMP.undo)] if isinstance(share, Run) else [])
    assert FILE.read(world.host) == "10"


def test_what_could_not_be_switched_back_is_tried_again(world: World) -> None:
    def fails(argv: list[str], seconds: float = 30) -> str:
        raise HookError("the lamp is broken")

    world.host.run = fails  # type: ignore[method-assign]
    claim = world.holds(LAMP, Run(), base="")
    assert world.undo(claim) == ["the lamp is broken"]
    assert world.now(claim) == (State.UNDOING, None)


def test_each_change_back_is_told(world: World) -> None:
    claim = world.holds(FILE)
    assert world.undo(claim) == []
    assert world.log.infos == [f"vm: test: {FILE.key}: 10 → 60"]


def test_a_value_that_a_vm_has_lost_is_still_another_s(world: World) -> None:
    """Whatever has become of it since: that is for the other VM's undo to see."""
    lost = world.holds(FILE, state=State.LOST)
    other = world.ledger.journal(OTHER, "other")
    other.begin("prepare", 2)
    held = world.ledger.claim(other, "prepare", 0, Step("test", FILE, Override("20")), "60")
    other.mark(held, State.HELD)
    world.host.files[FILE.path] = "99\n"
    assert world.undo(lost) == []
    assert [claim.state for claim in other.live()] == [State.HELD]
    assert world.log.warnings == []


def test_what_somebody_else_has_is_left_alone(world: World) -> None:
    """Though it is what the VM had set it to."""
    claim = world.holds(FILE, state=State.LOST)
    assert world.undo(claim) == []
    assert world.now(claim) == (State.UNDONE, None)
    assert FILE.read(world.host) == "10"
    assert world.log.warnings == []


@pytest.mark.parametrize(
    ("atomic", "state", "seen"),
    [
        (True, State.HELD, (State.UNDOING, "60")),
        (False, State.HELD, (State.UNDOING, "60")),
        # The journal says already that the value may be anything of ours.
        (True, State.PENDING, (State.PENDING, None)),
        # A part of it may be what neither of the two says.
        (False, State.PENDING, (State.UNDOING, "60")),
    ],
)
def test_the_journal_knows_of_an_undo_before_the_kernel_does(
    world: World, atomic: bool, state: State, seen: tuple[State, str | None]
) -> None:
    noted = []

    class Watched(File):
        def _write(self, host: WritableHost, value: str) -> None:
            claim = world.folder.load(VM).claims[1]
            noted.append((claim.state, claim.goal))
            super()._write(host, value)

    Watched.atomic = atomic
    claim = world.holds(Watched(FILE.path), state=state)
    assert world.undo(claim) == []
    assert noted == [seen]


@pytest.mark.parametrize("repeated", [False, True])
def test_what_is_right_already_is_written_again_only_where_that_may_be_needed(
    world: World, repeated: bool
) -> None:
    written = []

    class Watched(File):
        def _write(self, host: WritableHost, value: str) -> None:
            written.append(value)

    if repeated:
        Watched.repeated = True
    world.host.files[FILE.path] = "60\n"
    claim = world.holds(Watched(FILE.path), state=State.PENDING)
    assert world.undo(claim) == []
    assert written == ["60"] * repeated


@pytest.mark.parametrize("state", [State.HELD, State.PENDING])
def test_a_refused_write_leaves_a_claim_as_it_was(world: World, state: State) -> None:
    world.host.refuses = {FILE.path}
    claim = world.holds(FILE, state=state)
    assert len(world.undo(claim)) == 1
    assert world.now(claim) == (state, None)


# CPUs that are offline.


@pytest.mark.parametrize(
    ("lost", "offline", "awaited"),
    [
        ("", "", None),
        ("4-5", "", "4-5"),
        # Those that were offline at the time of the claim may stay so for good.
        ("4-5", "5", "4"),
        ("4-5", "4-6", None),
    ],
)
def test_cpus_that_the_kernel_has_lost_are_waited_for(
    world: World, lost: str, offline: str, awaited: str | None
) -> None:
    world.host.files |= {FILE.path: "0-3\n", LOST: f"{lost}\n"}
    share = Subtract("4-7", offline=offline)
    claim = world.holds(Forgetful(FILE.path), share, base="0-7")
    problems = world.undo(claim)
    assert FILE.read(world.host) == "0-7"
    if awaited is None:
        assert problems == []
        assert world.now(claim) == (State.UNDONE, None)
    else:
        (problem,) = problems
        assert problem.endswith(f"this kernel takes them from its threads: {awaited}")
        assert world.now(claim) == (State.WAITING, awaited)


def test_what_waits_for_the_cpus_that_it_shows_has_not_come_right(world: World) -> None:
    world.host.files |= {FILE.path: "0\n", LOST: "4\n"}
    claim = world.holds(Forgetful(FILE.path), Override("0"), base="4")
    assert len(world.undo(claim)) == 1
    assert FILE.read(world.host) == "4"
    assert world.now(claim) == (State.WAITING, "4")


@pytest.mark.parametrize(
    ("knob", "value", "goal", "is_awake"),
    [
        (FILE, "0-3", "4", False),
        (FILE, "0-3", "4,6", True),
        (FILE, "0-3", None, True),
        (Unreadable(FILE.path), "asleep", None, False),
        (Unreadable(FILE.path), "gone", None, True),
    ],
)
def test_what_waits_is_undone_when_its_cpu_is_back(
    world: World, knob: Knob, value: str, goal: str | None, is_awake: bool
) -> None:
    world.host.files |= {FILE.path: f"{value}\n", "/sys/devices/system/cpu/online": "0-3,6\n"}
    claim = world.holds(knob, Subtract("4-7"), State.WAITING, goal, base="0-7")
    assert world.undoing.wake(world.journal) is is_awake
    assert world.now(claim)[0] is (State.UNDONE if is_awake else State.WAITING)


# The journal.


def test_a_note_that_there_is_no_room_for_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = world.holds(FILE)

    def full(disk: Disk, path: str, lines: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Disk, "append", full)
    assert world.undo(claim) == []
    assert FILE.read(world.host) == "60"
    assert f"{VM}.journal: cannot write the journal: No space left" in world.log.warnings[0]
