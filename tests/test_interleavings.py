"""Any order of starts, failures, crashes, stops and strangers: the right value at each moment.

The model is a few lines: a value is the host's own with the claims of the VMs that are running,
in the order in which they came. What the engine leaves on the host must be that, always.
"""

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes.death import Died, Fate, MortalDisk, MortalKernel
from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.engine import Engine
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.knobs import File, IrqAffinity, Pages, PciDriver
from vfio_hooks.sharing import Add, Exclusive, Override, Share, Subtract
from vfio_hooks.state import StateFolder
from vfio_hooks.steps import Step

GOVERNOR = File("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor")
IRQ = IrqAffinity(24)
PAGES = Pages("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages")
GPU, NIC = PciDriver("0000:04:00.0"), PciDriver("0000:05:00.0")
REFUSES = File("/proc/sys/vm/stat_interval")
BOUND = "vfio-pci (override vfio-pci)"

PLANS = (
    ((GOVERNOR, Override("performance")), (IRQ, Subtract("1-2")), (PAGES, Add(4))),
    ((PAGES, Add(1)), (GOVERNOR, Override("powersave")), (NIC, Exclusive(BOUND))),
    ((NIC, Exclusive(BOUND)), (IRQ, Subtract("2-5")), (GOVERNOR, Override("performance"))),
    ((GPU, Exclusive()), (IRQ, Subtract("0", ("0-7",))), (IRQ, Subtract("5")), (PAGES, Add(2))),
)
"""What each of the four VMs wants; they share every value but the GPU."""

BASE = a_host()
OPS = st.tuples(
    st.sampled_from(["start", "start", "stop", "fail", "crash", "crash in stop", "stranger"]),
    st.integers(0, 3),
    st.integers(0, 60),
)


@dataclass
class Model:
    """What the host ought to look like."""

    base: dict[str, str] = field(
        default_factory=lambda: {
            knob.key: knob.read(BASE) for knob in (GOVERNOR, IRQ, PAGES, GPU, NIC)
        }
    )
    claims: dict[str, list[tuple[int, Share]]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)

    def free(self, vm: int) -> bool:
        return all(
            not self.claims.get(knob.key)
            for knob, share in PLANS[vm]
            if isinstance(share, Exclusive)
        )

    def start(self, vm: int) -> None:
        self.running.add(vm)
        for knob, share in PLANS[vm]:
            self.claims.setdefault(knob.key, []).append((vm, share))

    def stop(self, vm: int) -> None:
        self.running.discard(vm)
        for key, claims in self.claims.items():
            self.claims[key] = [claim for claim in claims if claim[0] != vm]

    def value(self, key: str) -> str:
        shares = [share for _, share in self.claims.get(key, [])]
        base = self.base[key]
        match shares[-1] if shares else None:
            case None | Exclusive(None):
                return base
            case Override(value) | Exclusive(str(value)):
                return value
            case Add():
                return str(int(base) + sum(s.count for s in shares if isinstance(s, Add)))
            case _:
                taken = set[int]().union(
                    *(parse_list(s.cpus) for s in shares if isinstance(s, Subtract))
                )
                return format_list(parse_list(base) - taken)


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
            case "stop" | "crash in stop":
                self.stop(vm, Fate(number if op == "crash in stop" else None))
            case "stranger":
                self.stranger(number)

    def start(self, op: str, vm: int, number: int) -> None:
        steps = [Step("test", knob, share) for knob, share in PLANS[vm]]
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
        if any(knob is GPU for knob, _ in PLANS[vm]):
            Kernel.bind_as_libvirt(self.host, GPU.address)

    def stop(self, vm: int, fate: Fate) -> None:
        if vm in self.model.running and any(knob is GPU for knob, _ in PLANS[vm]):
            Kernel.give_back_as_libvirt(self.host, GPU.address)
        self.model.stop(vm)
        try:
            assert self.engine(fate).undo("release", uuid(vm)) == []
        except Died:
            # Whichever VM comes next finishes it, once the first record of it is on disk.
            begun = fate.passed >= 2
            self.engine(Fate()).undo("undo", uuid(9 if begun else vm))

    def stranger(self, number: int) -> None:
        """Somebody else sets a value; each time to one that nobody has set before."""
        knob = (GOVERNOR, IRQ, PAGES)[number % 3]
        if knob is PAGES:
            self.model.base[knob.key] = str(int(self.model.base[knob.key]) + number)
        else:
            fresh = 100 + len(self.host.ran)
            self.host.ran.append([])
            self.model.base[knob.key] = f"set-{fresh}" if knob is GOVERNOR else str(fresh)
            self.model.claims.pop(knob.key, None)
        Kernel.write(self.host, knob.key, self.model.value(knob.key))

    def check(self) -> None:
        for key in self.model.base:
            knob = next(knob for plan in PLANS for knob, _ in plan if knob.key == key)
            lent = knob is GPU and self.model.claims.get(key)
            shown = BOUND if lent else self.model.value(key)
            assert knob.read(self.host) == shown, key


def uuid(vm: int) -> str:
    return f"00000000-0000-0000-0000-00000000000{vm}"


@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
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
