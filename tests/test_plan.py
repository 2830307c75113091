"""A whole plan: what is said of each step, what does not fit together, what is left out."""

from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.engine import Engine, Given
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import Change, check, is_over, preview, undo_text
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import Gone, HookError, Several
from vfio_hooks.knobs import (
    Command,
    File,
    IrqAffinity,
    Knob,
    PciDriver,
    ThreadAffinity,
    Trigger,
    VfCount,
)
from vfio_hooks.sharing import (
    Add,
    AtLeast,
    Exclusive,
    Include,
    Once,
    Only,
    Override,
    Run,
    Share,
    Subtract,
)
from vfio_hooks.steps import Step

FILE = File("/proc/sys/vm/stat_interval")
CARD = PciDriver("0000:04:00.0")
IRQ = IrqAffinity(24)
DROP = Trigger("/proc/sys/vm/drop_caches")
LAMP = Command(("switch", "on"), ("switch", "off"))
VM, OTHER = (f"00000000-0000-0000-0000-00000000000{last}" for last in "ab")


def step(knob: Knob, share: Share, plugin: str = "test", **more: object) -> Step:
    return Step(plugin, knob, share, **more)  # type: ignore[arg-type]


@pytest.fixture
def ledger(memory: Path) -> Ledger:
    return Ledger(StateFolder(str(memory)))


@pytest.mark.parametrize(
    ("knob", "share", "base", "text"),
    [
        (DROP, Once("3"), "", "cannot be undone: it stays"),
        (LAMP, Run(), "", "switch off"),
        (FILE, Override("9"), "1", "back to 1, unless another VM or somebody else has it by then"),
        (FILE, Override("9"), "", "back to (not set), unless another VM or somebody else has it"),
        (CARD, Exclusive(), "amdgpu", "back to amdgpu, unless another VM or somebody else has it"),
        (IRQ, Only("4-5"), "0-7", "back to 0-7, except CPUs that belong to other VMs"),
        (IRQ, Subtract("4"), "0-7", "CPUs 4 come back, except those that belong to other VMs"),
        (IRQ, Include("4"), "0-3", "CPUs 4 go, except those that belong to other VMs"),
        (FILE, AtLeast(7), "2", "back to 2 when no VM needs more"),
        (FILE, Add(7), "2", "7 are removed again"),
    ],
)
def test_what_will_undo_a_step(knob: Knob, share: Share, base: str, text: str) -> None:
    assert undo_text(step(knob, share), base).startswith(text)


@pytest.mark.parametrize(
    ("knob", "share", "old", "new", "text"),
    [
        (FILE, Override("9"), "1", "9", f"{FILE.key}: 1 → 9"),
        (FILE, Override("9"), "9", "9", f"{FILE.key}: 9 (stays)"),
        (FILE, Override("9"), "", "9", f"{FILE.key}: (not set) → 9"),
        (CARD, Exclusive(), "amdgpu", "amdgpu", f"{CARD.key}: amdgpu → vfio-pci (by libvirt)"),
        (CARD, Exclusive("vfio-pci"), "amdgpu", "vfio-pci", f"{CARD.key}: amdgpu → vfio-pci"),
        (DROP, Once("3"), "", "3", f"{DROP.key}: 3"),
    ],
)
def test_what_a_step_is_said_to_do(knob: Knob, share: Share, old: str, new: str, text: str) -> None:
    assert str(Change(step(knob, share), old, new, "")) == text
    assert (
        str(Change(step(knob, share), old, new, "", "no such thing")) == "left out: no such thing"
    )


SAME_KEY = [
    (Override("1"), Override("1"), None),
    (Exclusive("a"), Exclusive("a"), None),
    (Add(1), Add(2), None),
    (Subtract("1"), Subtract("2"), None),
    (Include("1"), Include("2"), None),
    (Once("1"), Once("2"), None),
    (Run(), Run(), None),
    (AtLeast(4), AtLeast(4), None),
    (AtLeast(4), AtLeast(3), None),
    (AtLeast(3), AtLeast(4), "at least 3 are asked for first, and then 4"),
    (Override("1"), Override("2"), "one and two need different values"),
    (Exclusive("a"), Exclusive("b"), "one and two need different values"),
    (Only("1"), Only("2"), "one and two need different values"),
    (Subtract("1"), Only("2"), "one and two need different values"),
    (Subtract("1"), Include("2"), "one and two need different values"),
    (AtLeast(3), Override("3"), "one and two need different values"),
]


@pytest.mark.parametrize(("first", "second", "told"), SAME_KEY)
def test_two_steps_of_a_plan_on_one_value(
    ledger: Ledger, first: Share, second: Share, told: str | None
) -> None:
    steps = [step(FILE, first, "one"), step(FILE, second, "two")]
    if told is None:
        check(steps, VM, ledger, Kernel())
        return
    with pytest.raises(HookError) as failure:
        check(steps, VM, ledger, Kernel())
    assert failure.value.problem == f"{FILE.key}: {told}"
    assert failure.value.hint in (
        "ask for 4 in the first table as well",
        "remove the table of one of them from vm.toml",
    )


OTHERS = [
    (Override("1"), Override("2"), None),
    (Subtract("1"), Only("2"), None),
    (Only("1"), Subtract("2"), None),
    (Add(1), Add(2), None),
    (AtLeast(4), AtLeast(4), None),
    (AtLeast(4), AtLeast(5), "VM first has it"),
    (Exclusive("a"), Exclusive("a"), "VM first has it"),
    (Override("1"), Exclusive("1"), "two needs another value than one of VM first, which has set"),
    (Subtract("1"), Include("2"), "two needs another value than one of VM first, which has set"),
]


@pytest.mark.parametrize(("held", "wanted", "told"), OTHERS)
def test_what_another_vm_has(memory: Path, held: Share, wanted: Share, told: str | None) -> None:
    folder = StateFolder(str(memory))
    journal = folder.create(OTHER, "first")
    journal.begin("prepare", 1)
    journal.claim(1, "prepare", 0, step(FILE, held, "one"), "")
    ledger, steps = Ledger(folder), [step(FILE, wanted, "two")]
    if told is None:
        check(steps, VM, ledger, Kernel())
        return
    with pytest.raises(HookError) as failure:
        check(steps, VM, ledger, Kernel())
    assert told in failure.value.problem
    assert failure.value.problem.startswith(f"{FILE.key}: ")
    assert failure.value.hint.startswith("shut down first")
    if isinstance(wanted, Exclusive) and type(held) is type(wanted):
        # What the VM itself has is no obstacle.
        check(steps, OTHER, ledger, Kernel())


def kernel(**values: str) -> Kernel:
    host = Kernel()
    host.files = {f"/sys/{name}": f"{value}\n" for name, value in values.items()}
    return host


def test_steps_of_a_plan_build_on_each_other(ledger: Ledger) -> None:
    steps = [step(File("/sys/pages"), Add(2)), step(File("/sys/pages"), Add(3))]
    changes = preview(steps, kernel(pages="4"), ledger)
    assert [(change.old, change.new) for change in changes] == [("4", "6"), ("6", "9")]


def test_all_tables_that_cannot_be_planned_are_told_at_once(ledger: Ledger) -> None:
    """The first failure of each. Steps that are not required are only left out."""
    steps = [
        step(File("/sys/no1"), Override("1"), "one"),
        step(File("/sys/no2"), Override("1"), "one"),
        step(File("/sys/no3"), Override("1"), "two", required=False),
        step(File("/sys/no4"), Override("1"), "three"),
    ]
    with pytest.raises(Several) as failure:
        preview(steps, kernel(), ledger)
    assert [error.problem.split(":")[:2] for error in failure.value.errors] == [
        ["one", " /sys/no1"],
        ["three", " /sys/no4"],
    ]
    (left_out,) = preview(steps[2:3], kernel(), ledger)
    assert left_out.problem.startswith("/sys/no3")


def test_a_step_that_is_left_out_does_not_count_for_the_next(ledger: Ledger) -> None:
    cpus = kernel(irq="4-5")
    steps = [
        step(File("/sys/irq"), Subtract("4-5"), required=False),
        step(File("/sys/irq"), Subtract("4"), required=False),
    ]
    changes = preview(steps, cpus, ledger)
    assert changes[0].problem.endswith("leave at least one CPU to the host")
    assert (changes[1].old, changes[1].new) == ("4-5", "5")


@pytest.mark.parametrize(
    ("knob", "error", "required", "expected"),
    [
        (ThreadAffinity(7, 70, "kworker"), Gone("it ended"), False, True),
        (ThreadAffinity(7, 70, "kworker"), Gone("it ended"), True, False),
        (ThreadAffinity(7, 70, "kworker"), HookError("no"), False, False),
        (FILE, Gone("no file"), False, False),
    ],
)
def test_what_ends_by_itself_is_not_missed(
    ledger: Ledger, knob: Knob, error: HookError, required: bool, expected: bool
) -> None:
    one = step(knob, Subtract("4"), required=required)
    assert is_over(one, error) is expected
    if expected:
        after = step(File("/sys/a"), Override("9"))
        assert [change.step for change in preview([one, after], kernel(a="1"), ledger)] == [after]


def test_what_another_step_makes_is_waited_for(ledger: Ledger) -> None:
    vfs = VfCount("0000:05:00.0")
    later = step(File("/sys/vf"), Override("1"), "sriov", awaits=vfs.key)
    host = a_host()
    with pytest.raises(HookError, match=f"it would exist only after {vfs.key} is set, which noth"):
        preview([later], host, ledger)
    host.files[vfs.key] = "0\n"
    host.files[vfs.key.replace("numvfs", "totalvfs")] = "7\n"
    changes = preview([step(vfs, AtLeast(2), "sriov"), later], host, ledger)
    assert (changes[1].old, changes[1].new) == ("does not exist yet", "1")


def test_what_was_detached_from_a_running_vm_is_free(memory: Path) -> None:
    """libvirt has no event for `virsh detach-device`; before the guest starts, it still has it."""
    host, folder = a_host(), StateFolder(str(memory))
    engine = Engine(host, folder, Lines())
    lent = [step(CARD, Exclusive())]

    def planner(_: Given) -> list[Step]:
        return lent

    engine.perform("prepare", OTHER, "first", planner)
    with pytest.raises(HookError, match="VM first has it"):
        engine.perform("prepare", VM, "second", planner)
    engine.perform("started", OTHER, "first", planner)
    engine.perform("prepare", VM, "second", planner)
    assert [claim.vm for claim in Ledger(folder).on(CARD.key)] == ["second"]
    assert engine.undo("release", OTHER) == []
