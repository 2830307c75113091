"""How often the host is read for an event: each file once for the plan, and anew for a write."""

import json
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.bench.scale import build
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.imports import CHECKOUT
from tests.test_in_use import needs_root
from vfio_hooks.config import Config
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine, Given
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.in_use import holders, stuck_writer, writer_name
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.host.view import View
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
VM = "00000000-0000-0000-0000-00000000000a"
PINNED = Domain("vm", VM, vcpus=2, vcpu_pins={0: frozenset({4}), 1: frozenset({5})})
FIRST, SECOND = File("/proc/sys/vm/first"), File("/proc/sys/vm/second")
TABLES = ["cpus", "irqs", "governor"]


class Counting(Kernel):
    """A kernel that counts how often each file is read."""

    def __init__(self) -> None:
        super().__init__()
        self.__dict__.update(a_host().__dict__)
        self.reads: Counter[str] = Counter()

    def read(self, name: str) -> str:
        self.reads[name] += 1
        return super().read(name)

    def write(self, name: str, text: str) -> None:
        seen = self.reads.copy()
        super().write(name, text)
        self.reads = seen  # The fake reads itself.


def test_a_plan_reads_each_file_once_and_a_write_reads_it_anew(memory: Path) -> None:
    kernel = Counting()
    planned: Counter[str] = Counter()

    def planner(given: Given) -> list[Step]:
        steps = plan_all(Event("vm", "prepare"), PINNED, Config.use(TABLES), given.host, Lines())
        planned.update(kernel.reads)
        return steps

    Engine(kernel, StateFolder(str(memory)), Lines()).perform("prepare", VM, "vm", planner)
    assert planned
    assert {name for name, count in planned.items() if count > 1} == set()
    # Planned, captured, and read back after the write.
    assert kernel.reads[IrqAffinity(24).key] == 3


class Linked(Kernel):
    """A kernel in which a write of one value changes another one, too."""

    def write(self, name: str, text: str) -> None:
        super().write(name, text)
        if name == FIRST.path:
            self.files[SECOND.path] = "2\n"


def test_what_changes_after_the_plan_is_seen_before_the_write(memory: Path) -> None:
    kernel = Linked()
    kernel.files = dict.fromkeys((FIRST.path, SECOND.path), "1\n")
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    steps = [Step("test", knob, Override("7")) for knob in (FIRST, SECOND)]
    engine.perform("prepare", VM, "vm", lambda _: steps)
    assert [claim.base for claim in engine.folder.load(VM).live()] == ["1", "2"]
    assert engine.undo("release", VM) == []
    assert SECOND.read(kernel) == "2"


def test_a_view_goes_by_what_it_saw() -> None:
    kernel = a_host()
    view = View(kernel)
    path, link = File("/proc/sys/vm/stat_interval"), f"{DEVICES}/0000:04:00.0/driver"
    for look in ("first", "later"):
        assert path.read(view) == "1"
        assert view.link(link) == "amdgpu"
        assert view.maybe("/proc/sys/vm/none") is None
        assert not view.exists("/proc/sys/vm/none")
        assert "none" not in view.names("/proc/sys/vm")
        if look == "first":
            kernel.files |= {path.path: "2\n", "/proc/sys/vm/none": "3\n"}
            kernel.unbind("0000:04:00.0", "0000:04:00.0")
    assert path.read(kernel) == "2"
    assert path.read(View(kernel)) == "2"


class Crowd(Host):
    """This machine with graphics cards of nvidia's, and a count of the looks at its processes."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def names(self, folder: str) -> list[str]:
        self.looks += folder == "/proc"
        return super().names(folder)

    def maybe(self, name: str) -> str | None:
        if name.startswith("/proc/driver/nvidia/gpus/"):
            return f"Device Minor: {int(name.split('/')[5][5:7], 16)}"
        return super().maybe(name)


CARDS = [f"0000:{slot:02x}:00.0" for slot in range(64)]


def test_one_look_at_all_processes_for_all_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    host, now = Crowd(), 100.0
    monkeypatch.setattr("vfio_hooks.host.in_use.time.monotonic", lambda: now)
    for address in CARDS:
        assert holders(host, address) == []
    assert host.looks == 1
    now += 1.1
    assert holders(host, CARDS[0]) == []
    assert host.looks == 2


def test_one_look_for_writers_that_were_left_behind() -> None:
    host = Crowd()
    for address in CARDS:
        assert stuck_writer(host, address) is None
        assert stuck_writer(View(host), address) is None
    assert host.looks == 1


@needs_root
def test_another_look_after_a_write_has_left_one_behind(tmp_path: Path) -> None:
    host, pipe = WritableHost(), tmp_path / "unbind"
    os.mkfifo(pipe)
    assert stuck_writer(host, "test:03.0") is None
    with pytest.raises(TimeoutError):
        host.write_aside(str(pipe), "x", 1, writer_name("test:03.0"))
    assert until(lambda: stuck_writer(Host(), "test:03.0") is not None, 60)
    writer = stuck_writer(host, "test:03.0")
    assert writer is not None
    assert pipe.read_text() == "x"
    os.waitpid(writer, 0)
    assert stuck_writer(host, "test:03.0") is None


EVENT = """\
import json
from collections import Counter
from vfio_hooks.config import Config
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all
from vfio_hooks.host import WritableHost
from vfio_hooks.log import SystemdJournal

root, state, uuid = sys.argv[2:]
opened = Counter()
def count(event, arguments):
    if event == "open" and str(arguments[0]).startswith(root):
        opened[str(arguments[0]).removeprefix(root)] += 1
    elif event == "socket.__new__":
        opened["socket"] += 1
sys.addaudithook(count)
vm = Domain("vm", uuid, vcpus=2, vcpu_pins={0: frozenset({8}), 1: frozenset({9})})
config, log = Config.use(["irqs", "governor"]), SystemdJournal(root + "/no/socket")
engine = Engine(WritableHost(root), StateFolder(state), log)
def planner(given):
    return plan_all(Event("vm", "prepare"), vm, config, given.host, log)
engine.perform("prepare", uuid, "vm", planner)
prepared = dict(opened)
opened.clear()
engine.undo("release", uuid)
print(json.dumps([prepared, opened]))
"""


def test_what_an_event_opens_on_a_host_of_files(memory: Path) -> None:
    build(memory, cpus=16, irqs=20)
    program = f"import sys; sys.path.insert(0, sys.argv[1])\n{EVENT}"
    argv = ["/usr/bin/python3", "-IS", "-c", program, str(CHECKOUT), str(memory)]
    done = subprocess.run([*argv, f"{memory}/state", VM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    prepared, undone = json.loads(done.stdout)
    for opened in (prepared, undone):
        # The journal is looked at, and kept open from its first record on.
        assert opened.pop(f"/state/{VM}.journal") <= 2
        assert opened.pop("socket", 0) <= 1
        irqs = [count for name, count in opened.items() if name.endswith("_affinity_list")]
        # Planned, captured, written, read back.
        assert len(irqs) == 20 and max(irqs) <= 4
        # Which CPUs there are is asked anew for every write of an interrupt: they come and go.
        hosts = {name for name in opened if name.endswith(("/cpu/online", "/node/cpumap"))}
        assert max(opened.pop(name) for name in hosts) <= 1 + 2 * len(irqs)
        assert {name: count for name, count in opened.items() if count > 5} == {}
