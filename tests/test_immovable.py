"""A value that the kernel holds where it is, when the plan is carried out and when it is undone."""

import errno
from pathlib import Path

import pytest

from tests.fakes.cpufreq import FOLDER, add_policy
from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.knobs.energy import EnergyPreference
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.sharing import Override, Subtract
from vfio_hooks.steps import Step

GOVERNOR = File(f"{FOLDER}/policy0/scaling_governor")
PREFERENCE = EnergyPreference(f"{FOLDER}/policy0/energy_performance_preference")
UUID = "00000000-0000-0000-0000-00000000000a"


@pytest.mark.parametrize("error", [errno.EPERM, errno.EIO])
def test_an_interrupt_that_the_kernel_manages_is_no_problem(memory: Path, error: int) -> None:
    kernel, log = a_host(), Lines()
    kernel.managed_error = error
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(memory)), log)
    steps = [Step("test", IrqAffinity(number), Subtract("4-7")) for number in (24, 26)]
    engine.perform("prepare", UUID, "vm", lambda _: steps)
    assert IrqAffinity(24).read(kernel) == "0-3"
    assert "1 cannot be changed: IRQ 26 is managed by the kernel, so it stays" in log.infos[-1]
    assert engine.undo("release", UUID) == []
    assert kernel.state() == before
    assert not log.warnings


def test_what_is_held_by_the_kernel_at_undo_is_no_problem(memory: Path) -> None:
    """Somebody switches to performance while the VM runs; the driver then holds the preference,
    and lets it go again when that is over."""
    kernel, log = Kernel(), Lines()
    add_policy(kernel, 0, "0 1", "intel_pstate", "powersave")
    engine = Engine(kernel, StateFolder(str(memory)), log)
    steps = [Step("test", PREFERENCE, Override("performance"))]
    engine.perform("prepare", UUID, "vm", lambda _: steps)
    kernel.write(GOVERNOR.path, "performance")
    assert engine.undo("release", UUID) == []
    assert PREFERENCE.read(kernel) == "performance"
    assert not log.warnings
    assert "keeps it at performance" in log.infos[-1]
    assert [file.name for file in memory.iterdir() if file.name != "lock"] == []
