"""A write that the kernel turns into what nobody asked for is ours all the same: it is put back."""

import copy
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.fakes.cpufreq import FOLDER
from tests.fakes.death import Died, Fate, MortalDisk, MortalKernel
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.test_crashes import PLANS
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.host.shared_memory import Access
from vfio_hooks.knobs import Knob
from vfio_hooks.knobs.energy import EnergyPreference
from vfio_hooks.knobs.file import CpuMask, File
from vfio_hooks.knobs.frequency import Frequency
from vfio_hooks.knobs.governor import Governor
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.sharing import Override, Share, Subtract, is_shared, target
from vfio_hooks.steps import Step

VM = "00000000-0000-0000-0000-00000000000a"
DEFAULT = CpuMask("/proc/irq/default_smp_affinity", mask=True)
INTERVAL = File("/proc/sys/vm/stat_interval")
LOWEST = Frequency(f"{FOLDER}/policy1/scaling_min_freq", seconds=0)
GOVERNOR = Governor(f"{FOLDER}/policy0/scaling_governor")
PREFERENCE = EnergyPreference(f"{FOLDER}/policy2/energy_performance_preference")
# What is asked for, as it is written, and what the kernel makes of it.
CASES: list[tuple[Knob, Share, str, str]] = [
    (DEFAULT, Subtract("4-7"), "f", "7"),
    (IrqAffinity(24), Subtract("4-7"), "0-3", "0-2"),
    (INTERVAL, Override("30"), "30", "29"),
    (LOWEST, Override("2000000"), "2000000", "1900000"),
    (GOVERNOR, Override("performance"), "performance", "powersave"),
    (PREFERENCE, Override("power"), "power", "balance_power"),
]
cases = pytest.mark.parametrize(
    ("knob", "share", "asked", "became"), CASES, ids=[case[0].kind for case in CASES]
)


def engine(kernel: Kernel, folder: Path, log: Lines, fate: Fate | None = None) -> Engine:
    disk = MortalDisk(fate) if fate else None
    return Engine(kernel, StateFolder(str(folder), disk), log)


class Deaf(Kernel):
    """A host on which no write or command fails, and none has an effect."""

    def write(self, name: str, text: str) -> None:
        pass

    def run(self, argv: list[str], seconds: float = 30) -> str:
        return ""

    def set_affinity(self, pid: int, cpus: Iterable[int]) -> None:
        pass

    def make_folder(self, name: str) -> None:
        pass

    def give(self, name: str, access: Access) -> None:
        pass


STEPS = [
    step
    for plan in PLANS.values()
    for step in plan
    if is_shared(step.share) and not step.awaits and step.knob.is_read_back
]


@pytest.mark.parametrize("kind", sorted({step.knob.kind for step in STEPS}))
def test_a_write_that_nothing_comes_of_has_failed(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count()
    clock = SimpleNamespace(monotonic=lambda: next(ticks), sleep=lambda _: None)
    monkeypatch.setattr("vfio_hooks.wait.time", clock)
    kernel = Deaf()
    kernel.__dict__.update(a_host().__dict__)
    for step in (one for one in STEPS if one.knob.kind == kind):
        base = step.knob.read(kernel)
        wanted = target(base, [step.share])
        if not step.knob.took(base, wanted, kernel):
            with pytest.raises(HookError):
                step.knob.write(kernel, wanted)


@cases
@pytest.mark.parametrize("required", [True, False])
def test_a_failed_start_leaves_nothing(
    memory: Path, knob: Knob, share: Share, asked: str, became: str, required: bool
) -> None:
    kernel, log = a_host(), Lines()
    kernel.turns[knob.key, asked] = became
    before = kernel.state()
    step = Step("test", knob, share, required=required)
    if required:
        with pytest.raises(HookError, match=r"shows? "):
            engine(kernel, memory, log).perform("prepare", VM, "vm", lambda _: [step])
    else:
        engine(kernel, memory, log).perform("prepare", VM, "vm", lambda _: [step])
    assert kernel.state() == before
    assert not any("somebody else" in line for line in log.warnings)
    assert engine(kernel, memory, log).undo("release", VM) == []
    assert not list(memory.glob("*.journal"))


@cases
def test_nor_does_dying_at_any_moment_of_it(
    memory: Path, knob: Knob, share: Share, asked: str, became: str
) -> None:
    begin = MortalKernel()
    begin.__dict__.update(copy.deepcopy(a_host().__dict__))
    begin.turns[knob.key, asked] = became
    before = begin.state()
    for moment in count():
        kernel, folder, log = copy.deepcopy(begin), memory / str(moment), Lines()
        fate = kernel.fate = Fate(moment)
        try:
            with pytest.raises(HookError):
                engine(kernel, folder, log, fate).perform(
                    "prepare", VM, "vm", lambda _: [Step("test", knob, share)]
                )
        except Died:
            kernel.fate = Fate()
            assert engine(kernel, folder, log).undo("undo", VM) == []
        else:
            break
        assert kernel.state() == before, f"moment {moment}"
    assert moment > 8


@cases
def test_an_undo_that_is_turned_can_be_tried_again(
    memory: Path, knob: Knob, share: Share, asked: str, became: str
) -> None:
    kernel, log = a_host(), Lines()
    before = kernel.state()
    step = Step("test", knob, share)
    engine(kernel, memory, log).perform("prepare", VM, "vm", lambda _: [step])
    own = kernel.turns.setdefault((knob.key, _written(knob, kernel, before)), became)
    assert own == became
    assert len(engine(kernel, memory, log).undo("release", VM)) == 1
    kernel.turns.clear()
    assert engine(kernel, memory, log).undo("release", VM) == []
    assert kernel.state() == before
    assert not any("somebody else" in line for line in log.warnings)


def _written(knob: Knob, kernel: Kernel, before: dict[str, str]) -> str:
    """How the host's own value is written."""
    return before[knob.key].strip()
