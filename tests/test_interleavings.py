"""Any order of starts, failures, crashes, stops and strangers: the right value at each moment.

The model is a few lines: a value is the host's own with the claims of the VMs that are running,
in the order in which they came. What the engine leaves on the host must be that, always.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import effort
from tests.fakes.death import Died, Fate, MortalDisk, MortalKernel
from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.engine import Engine
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.file import CpuMask, File
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.sharing import Add, AtLeast, Exclusive, Include, Override, Run, Share, Subtract
from vfio_hooks.steps import Step

if TYPE_CHECKING:
    from vfio_hooks.steps import Until

GOVERNOR = File("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor")
IRQ = IrqAffinity(24)
PAGES = Pages("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
GPU, NIC = PciDriver("0000:04:00.0"), PciDriver("0000:05:00.0")
REFUSES = File("/proc/sys/vm/stat_interval")
BOUND = "vfio-pci (override vfio-pci)"

CPUS = CpuMask("/test/cpus")
VFS = File("/test/vfs")
LAMPS = [Command(("switch", f"lamp{vm}", "on"), ("switch", f"lamp{vm}", "off")) for vm in range(4)]


def wanted(knob: Knob, share: Share, until: "Until" = "release") -> Step:
    return Step("test", knob, share, until)


PLANS = (
    (
        wanted(GOVERNOR, Override("performance")),
        wanted(IRQ, Subtract("1-2"), "stopped"),
        wanted(PAGES, Add(4)),
        wanted(VFS, AtLeast(9)),
        wanted(LAMPS[0], Run()),
    ),
    (
        wanted(PAGES, Add(1), "stopped"),
        wanted(GOVERNOR, Override("powersave"), "stopped"),
        wanted(NIC, Exclusive(BOUND)),
        wanted(CPUS, Include("2-3")),
    ),
    (
        wanted(NIC, Exclusive(BOUND)),
        wanted(IRQ, Subtract("2-5")),
        wanted(GOVERNOR, Override("performance")),
        wanted(VFS, AtLeast(7)),
        wanted(LAMPS[2], Run(), "stopped"),
    ),
    (
        wanted(GPU, Exclusive()),
        wanted(CPUS, Include("3,6"), "stopped"),
        wanted(IRQ, Subtract("0", ("0-7",))),
        wanted(IRQ, Subtract("5")),
        wanted(PAGES, Add(2)),
        wanted(VFS, AtLeast(8), "stopped"),
    ),
)
"""What each of the four VMs wants, in all the ways of sharing; they share every value but the GPU
and the lamps."""
GPU_S_OWN = 3

BASE = a_host()
BASE.files |= {CPUS.path: "0\n", VFS.path: "2\n"} | {f"/switch/lamp{vm}": "off\n" for vm in (0, 2)}
OPS = st.tuples(
    st.sampled_from("start start stop fail crash stopped crash-in-stop stranger".split()),
    st.integers(0, 3),
    st.integers(0, 60),
)


@dataclass
class Model:
    """What the host ought to look like."""

    base: dict[str, str] = field(
        default_factory=lambda: {
            knob.key: knob.read(BASE) for knob in (GOVERNOR, IRQ, PAGES, GPU, NIC, CPUS, VFS)
        }
    )
    claims: dict[str, list[tuple[int, Step]]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)

    def shares(self, key: str) -> list[Share]:
        return [step.share for _, step in self.claims.get(key, [])]

    def free(self, vm: int) -> bool:
        """Whether nothing that others have keeps a VM from starting: a device, or a number that
        could only grow by being 0 in between."""
        for step in PLANS[vm]:
            held = self.shares(step.key)
            if isinstance(step.share, Exclusive) and held:
                return False
            counts = [share.count for share in held if isinstance(share, AtLeast)]
            if isinstance(step.share, AtLeast) and step.share.count > min(counts, default=99):
                return False
        return True

    def start(self, vm: int) -> None:
        self.running.add(vm)
        for step in PLANS[vm]:
            self.claims.setdefault(step.key, []).append((vm, step))

    def stopped(self, vm: int) -> None:
        self._drop(lambda owner, step: owner == vm and step.until == "stopped")

    def stop(self, vm: int) -> None:
        self.running.discard(vm)
        self._drop(lambda owner, _: owner == vm)

    def _drop(self, ends: Callable[[int, Step], bool]) -> None:
        for key, claims in self.claims.items():
            self.claims[key] = [claim for claim in claims if not ends(*claim)]

    def value(self, key: str) -> str:
        shares, base = self.shares(key), self.base[key]
        match shares[-1] if shares else None:
            case None | Exclusive(None):
                return base
            case Override(value) | Exclusive(str(value)):
                return value
            case Add():
                return str(int(base) + sum(s.count for s in shares if isinstance(s, Add)))
            case AtLeast():
                return str(max(s.count for s in shares if isinstance(s, AtLeast)))
            case Include():
                return format_list(parse_list(base) | _cpus(shares))
            case _:
                return format_list(parse_list(base) - _cpus(shares))


def _cpus(shares: Sequence[Share]) -> set[int]:
    named = (s.cpus for s in shares if isinstance(s, Subtract | Include))
    return set[int]().union(*map(parse_list, named))


class World:
    """The engine on a fake kernel, and the model beside it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.host = MortalKernel()
        self.host.files = dict(BASE.files)
        self.host.links = dict(BASE.links)
        self.host.home = copy.copy(BASE.home)
        self.host.refuses = {REFUSES.path}
        self.model = Model()
        self.log = Lines()

    def engine(self, fate: Fate) -> Engine:
        self.host.fate = fate
        return Engine(self.host, StateFolder(self.folder, MortalDisk(fate)), self.log)

    def do(self, op: str, vm: int, number: int) -> None:
        match op:
            case "start" | "fail" | "crash":
                self.start(op, vm, number)
            case "stop" | "crash-in-stop":
                self.stop(vm, Fate(number if op == "crash-in-stop" else None))
            case "stopped":
                assert self.engine(Fate()).undo("stopped", uuid(vm)) == []
                self.model.stopped(vm)
            case "stranger":
                self.stranger(number)

    def start(self, op: str, vm: int, number: int) -> None:
        steps = list(PLANS[vm])
        if op == "fail":
            position = number % (len(steps) + 1)
            steps.insert(position, Step("test", REFUSES, Override("9")))
        # A VM that runs is not started again; its leftovers are, when nobody told us of its end.
        self.model.stop(vm)
        fate = Fate(number if op == "crash" else None)
        try:
            self.engine(fate).perform("prepare", uuid(vm), f"vm{vm}", lambda _: steps)
        except HookError:
            assert op == "fail" or not self.model.free(vm)
            return
        except Died:
            self.engine(Fate()).undo("undo", uuid(vm))
            return
        assert op != "fail" and self.model.free(vm)
        self.model.start(vm)
        if vm == GPU_S_OWN:
            Kernel.bind_as_libvirt(self.host, GPU.address)

    def stop(self, vm: int, fate: Fate) -> None:
        if vm in self.model.running and vm == GPU_S_OWN:
            Kernel.give_back_as_libvirt(self.host, GPU.address)
        self.model.stop(vm)
        try:
            assert self.engine(fate).undo("release", uuid(vm)) == []
        except Died:
            # Whichever VM comes next finishes it, once the first record of it is on disk.
            begun = Ledger(StateFolder(self.folder)).unfinished()
            self.engine(Fate()).undo("undo", uuid(9 if begun else vm))

    def stranger(self, number: int) -> None:
        """Somebody else sets a value, each time to one that was never set before."""
        knob = (GOVERNOR, IRQ, PAGES)[number % 3]
        if knob is PAGES:
            self.model.base[knob.key] = str(int(self.model.base[knob.key]) + number)
        else:
            fresh = len(self.host.ran)
            self.host.ran.append([])
            # CPUs that run: for others the kernel would take all that do.
            cpus = {0, 7} | {cpu for place, cpu in enumerate((1, 2, 3, 5)) if fresh >> place & 1}
            self.model.base[knob.key] = f"set-{fresh}" if knob is GOVERNOR else format_list(cpus)
            self.model.claims.pop(knob.key, None)
        Kernel.write(self.host, knob.key, self.model.value(knob.key))

    def check(self) -> None:
        for key in self.model.base:
            knob = next(step.knob for plan in PLANS for step in plan if step.key == key)
            lent = knob is GPU and self.model.claims.get(key)
            shown = BOUND if lent else self.model.value(key)
            assert knob.read(self.host) == shown, key
        for vm in (0, 2):
            lit = bool(self.model.claims.get(LAMPS[vm].key))
            assert self.host.files[f"/switch/lamp{vm}"].strip() == ("on" if lit else "off")


def uuid(vm: int) -> str:
    return f"00000000-0000-0000-0000-00000000000{vm}"


@settings(
    max_examples=effort(2_000, 10_000), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(st.lists(OPS, min_size=2, max_size=12))
def test_every_interleaving_is_right_throughout(ops: Sequence[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        world = World(folder)
        for op in ops:
            world.do(*op)
            world.check()
        for vm in range(4):
            world.stop(vm, Fate())
            world.check()
        assert [file.name for file in Path(folder).iterdir() if file.name != "lock"] == []
