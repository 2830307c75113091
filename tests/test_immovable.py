"""A value that the kernel holds where it is, when the plan is carried out and when it is undone."""

from pathlib import Path

from tests.fakes.cpufreq import FOLDER, add_policy
from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.knobs import EnergyPreference, File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

GOVERNOR = File(f"{FOLDER}/policy0/scaling_governor")
PREFERENCE = EnergyPreference(f"{FOLDER}/policy0/energy_performance_preference")
UUID = "00000000-0000-0000-0000-00000000000a"


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
    assert "holds it at performance" in log.infos[-1]
    assert [file.name for file in memory.iterdir() if file.name != "lock"] == []
