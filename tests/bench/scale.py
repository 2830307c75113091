"""How the cost grows with the host: `python3 -m tests.bench.scale`.

Hosts of 16 to 1,024 CPUs and 100 to 8,000 interrupts, as folders of plain files: planning,
carrying out and undoing [irqs] and [governor] of a VM that has a quarter of the CPUs. Linear means
that the last column, seconds for a thousand values, stays as it is.
"""

import resource
import tempfile
import time
from pathlib import Path

from vfio_hooks.config import Config
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine, Given
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all
from vfio_hooks.host import WritableHost
from vfio_hooks.host.cpulist import format_list, format_mask
from vfio_hooks.steps import Step

SIZES = ((16, 100), (64, 1000), (256, 1000), (256, 8000), (1024, 1000), (1024, 8000))
UUID = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"


class Silence:
    """A log that nobody reads."""

    def info(self, text: str, vm: str = "") -> None: ...

    def warning(self, text: str, vm: str = "") -> None: ...


def put(root: Path, name: str, text: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def build(root: Path, cpus: int, irqs: int) -> None:
    """A host of nodes of 16 CPUs each."""
    everyone = format_list(range(cpus))
    for name in ("online", "possible", "present"):
        put(root, f"sys/devices/system/cpu/{name}", everyone)
    for node in range(0, cpus // 16):
        mine = format_mask(range(node * 16, node * 16 + 16))
        put(root, f"sys/devices/system/node/node{node}/cpumap", mine)
        distances = " ".join("10" if other == node else "20" for other in range(cpus // 16))
        put(root, f"sys/devices/system/node/node{node}/distance", distances)
    for cpu in range(cpus):
        policy = f"sys/devices/system/cpu/cpufreq/policy{cpu}"
        put(root, f"{policy}/scaling_governor", "schedutil")
        put(root, f"{policy}/scaling_available_governors", "performance schedutil")
        put(root, f"{policy}/related_cpus", str(cpu))
        put(root, f"{policy}/affected_cpus", str(cpu))
    put(root, "proc/irq/default_smp_affinity", format_mask(range(cpus)))
    for number in range(irqs):
        put(root, f"proc/irq/{number}/smp_affinity_list", everyone)


def measure(root: Path, state: str, cpus: int) -> tuple[int, float, float, float]:
    """How many values, and the seconds of planning, carrying out and undoing."""
    host = WritableHost(str(root))
    pins = {cpu: frozenset({cpu}) for cpu in range(cpus // 2, cpus // 2 + cpus // 4)}
    domain = Domain("bench", UUID, vcpus=len(pins), vcpu_pins=pins)
    event, config = Event("bench", "prepare"), Config.use(["irqs", "governor"])
    engine = Engine(host, StateFolder(state), Silence())
    started = time.perf_counter()
    steps = plan_all(event, domain, config, host, Silence())
    planned = time.perf_counter()

    def planner(_: Given) -> list[Step]:
        return steps

    engine.perform("prepare", UUID, "bench", planner)
    applied = time.perf_counter()
    problems = engine.undo("release", UUID)
    if problems:
        raise RuntimeError(problems[0])
    undone = time.perf_counter()
    return len(steps), planned - started, applied - planned, undone - applied


def main() -> None:
    print(f"{'CPUs':>6}{'IRQs':>7}{'values':>8}{'plan s':>9}{'apply s':>9}{'undo s':>9}", end="")
    print(f"{'s per 1000 values':>20}")
    for cpus, irqs in SIZES:
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            root = Path(folder) / "root"
            build(root, cpus, irqs)
            values, plan, apply, undo = measure(root, f"{folder}/state", cpus)
        each = (plan + apply + undo) / values * 1000
        print(f"{cpus:>6}{irqs:>7}{values:>8}{plan:>9.2f}{apply:>9.2f}{undo:>9.2f}{each:>20.2f}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
