"""Folding changes: nothing is lost, and what is alike is one line."""

from hypothesis import given
from hypothesis import strategies as st

from vfio_hooks.cli import folding
from vfio_hooks.engine.plan import Change
from vfio_hooks.host.cpulist import parse_list
from vfio_hooks.knobs import Knob
from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.thread import ThreadAffinity
from vfio_hooks.sharing import Subtract
from vfio_hooks.steps import Step


def change(knob: Knob, old: str = "0-7", new: str = "0-3", problem: str = "") -> Change:
    return Change(Step("test", knob, Subtract("4-7")), old, new, "", problem)


def folded(changes: list[Change]) -> list[str]:
    return [line for line, _ in folding.folded(changes)]


def test_a_few_stay_what_they_are() -> None:
    changes = [change(IrqAffinity(number)) for number in (24, 25, 26)]
    assert folded(changes) == [str(one) for one in changes]


def test_many_that_do_the_same_are_one_line() -> None:
    changes = [
        change(AllowedCpus("user.slice"), ""),
        change(IrqAffinity(9), "0-3", "0-3"),
        *(change(IrqAffinity(number)) for number in (24, 25, 26, 40)),
        *(change(IrqAffinity(number), new="0") for number in (27, 28)),
        *(change(ThreadAffinity(pid, 1, f"kworker{pid}")) for pid in (2, 3, 4, 5)),
        *(
            change(IrqAffinity(number), problem=f"IRQ {number} no longer exists")
            for number in range(50, 55)
        ),
    ]
    assert folded(changes) == [
        "/sys/fs/cgroup/user.slice/cpuset.cpus: (not set) → 0-3",
        "/proc/irq/9/smp_affinity_list: 0-3 (stays)",
        "/proc/irq/{24-26,40}/smp_affinity_list: 0-7 → 0-3",
        "/proc/irq/27/smp_affinity_list: 0-7 → 0",
        "/proc/irq/28/smp_affinity_list: 0-7 → 0",
        "/proc/2 (kworker2) and 3 more: 0-7 → 0-3",
        "left out: IRQ 50 no longer exists (and 4 more like it)",
    ]


@given(st.dictionaries(st.integers(0, 9999), st.sampled_from(["0", "0-3", "2"]), max_size=60))
def test_every_interrupt_is_in_exactly_one_line(targets: dict[int, str]) -> None:
    lines = folded([change(IrqAffinity(number), new=new) for number, new in targets.items()])
    found: dict[int, str] = {}
    for line in lines:
        path, _, effect = line.partition(": ")
        for number in parse_list(path.split("/")[3].strip("{}")):
            assert number not in found
            found[number] = effect.partition(" → ")[2]
    assert found == targets
    assert len(lines) <= 3 * 3
