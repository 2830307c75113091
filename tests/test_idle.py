"""Events that `prepare` noted as idle end before Python, and only as long as that is still so."""

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.death import Died, Fate, MortalDisk, MortalKernel
from tests.fakes.kernel import Lines, a_host
from tests.half import Half
from tests.hosttree import domain_xml
from vfio_hooks.config import Config, usable
from vfio_hooks.domain import parse
from vfio_hooks.engine.journal import Journal
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.hook import handle, idle
from vfio_hooks.hook.idle import Notes, idle_events
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.paths import Paths
from vfio_hooks.record import field, record

pytestmark = pytest.mark.real_processes
GOVERNOR = "[governor]\n"
IRQS = "[irqs]\nvectors = false\n"
EVENING = ("prepare", "start", "started", "stopped", "release")
PINNED = (
    "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='4'/><vcpupin vcpu='1' cpuset='5'/></cputune>"
)
POOL = "<devices><interface type='network'><source network='pool'/></interface></devices>"


@record
class Mortal(Paths):
    """Paths whose writer dies at its fate's moment."""

    kernel: MortalKernel = field(default_factory=MortalKernel)
    fate: Fate = field(default_factory=Fate)

    def host(self) -> WritableHost:
        self.kernel.fate = self.fate
        return self.kernel

    def folder(self) -> StateFolder:
        return StateFolder(self.state, MortalDisk(self.fate))


class Evening:
    """A host with one managed VM, and the hook's first half as libvirt runs it."""

    def __init__(self, root: Path, toml: str, xml: str = "") -> None:
        self.half = Half(root)
        self.folder = self.half.manage("win11", toml)
        self.half.age()
        self.xml = xml or domain_xml(functions=(), more=PINNED)
        self.kernel = MortalKernel()
        self.kernel.__dict__.update(copy.deepcopy(a_host().__dict__))

    def event(self, op: str, fate: Fate | None = None, vm: str = "win11") -> bool:
        """Make libvirt's call. Returns whether Python was started for it."""
        if not self.half.starts_python(vm, op):
            return False
        paths = Mortal(
            str(self.half.hooks), str(self.half.state), kernel=self.kernel, fate=fate or Fate()
        )
        subop = "end" if op in ("stopped", "release") else "begin"
        xml = self.xml if vm == "win11" else domain_xml(vm, OTHER, ())
        handle(Event(vm, op, subop), xml.encode(), paths, Lines())
        return True

    def evening(self, fate: Fate | None = None) -> None:
        for op in EVENING:
            self.event(op, fate)
            if op == "start":
                self.half.start("win11")
            elif op == "stopped":
                self.half.stop("win11")

    def left(self) -> list[Journal]:
        """The journals that there are."""
        folder = StateFolder(str(self.half.state))
        return [folder.load(uuid) for uuid in folder.uuids()]

    def for_python(self) -> list[str]:
        """The events that are not idle now."""
        return [op for op in EVENING if self.half.starts_python("win11", op)]


OTHER = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c12"
OUTER = ["prepare", "release"]
ACTIVE = {
    "nothing": ("", OUTER),
    "a governor": (GOVERNOR, OUTER),
    "values until stopped": (IRQS, ["prepare", "stopped", "release"]),
    "vectors, at started": ("[irqs]\n", ["prepare", "started", "stopped", "release"]),
    "a look at the guest's time": ("[verify]\n", ["prepare", "started", "release"]),
}


@pytest.mark.parametrize(("toml", "active"), ACTIVE.values(), ids=ACTIVE.keys())
def test_which_events_are_idle(memory: Path, toml: str, active: list[str]) -> None:
    passed = ("0000:06:00.0",) if toml == "[irqs]\n" else ()
    host = Evening(memory, toml, domain_xml(functions=passed, more=PINNED))
    assert host.for_python() == list(EVENING)
    host.event("prepare")
    assert host.for_python() == active


def test_what_is_left_after_an_evening(memory: Path) -> None:
    host = Evening(memory, GOVERNOR)
    before = host.kernel.state()
    host.evening()
    assert host.kernel.state() == before
    assert host.for_python() == list(EVENING)
    assert [path.name for path in host.half.state.rglob("*") if path.is_file()] == ["lock"]


def rewrite(host: Evening) -> None:
    (host.folder / "vm.toml").write_text(GOVERNOR + IRQS)


def put_an_older_one_in_its_place(host: Evening) -> None:
    """In place, so that only the file's own time differs."""
    path = host.folder / "vm.toml"
    path.write_text(GOVERNOR + IRQS)
    os.utime(path, (0, 0))


def remove_the_file(host: Evening) -> None:
    (host.folder / "vm.toml").unlink()


def change_the_defaults(host: Evening) -> None:
    (host.half.hooks / "vfio-hooks.toml").write_text('[governor]\ngovernor = "powersave"\n')


def add_a_module(host: Evening) -> None:
    (host.folder / "mine.py").write_text("def plan(event, domain, options, host):\n    return []\n")


def move_the_folder_away_and_make_another(host: Evening) -> None:
    host.folder.rename(host.folder.with_name("old"))
    host.half.manage("win11", GOVERNOR + IRQS)


def upgrade(host: Evening) -> None:
    """As install.sh does, which writes the hook with the folder of the new version."""
    new = host.half.path.with_name("new")
    shutil.copy(host.half.path, new)
    new.replace(host.half.path)


def restore_the_hook_of_before(host: Evening) -> None:
    os.utime(host.half.path, (0, 0))


STALE: tuple[Callable[[Evening], None], ...] = (
    rewrite,
    put_an_older_one_in_its_place,
    remove_the_file,
    change_the_defaults,
    add_a_module,
    move_the_folder_away_and_make_another,
    upgrade,
    restore_the_hook_of_before,
)


@pytest.mark.parametrize("change", STALE)
def test_a_change_after_prepare_is_looked_into(
    memory: Path, change: Callable[[Evening], None]
) -> None:
    host = Evening(memory, GOVERNOR)
    before = host.kernel.state()
    host.event("prepare")
    assert host.for_python() == OUTER
    change(host)
    assert host.for_python() == list(EVENING)
    host.evening()
    assert host.kernel.state() == before


def test_defaults_that_change_are_looked_into(memory: Path) -> None:
    host = Evening(memory, GOVERNOR)
    change_the_defaults(host)
    host.half.age()
    host.event("prepare")
    assert host.for_python() == OUTER
    (host.half.hooks / "vfio-hooks.toml").unlink()
    assert host.for_python() == list(EVENING)


def test_nothing_rests_on_a_file_that_was_changed_only_now(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second change within a tick of the file system's clock would have the same time."""
    # As long as a busy machine may need; the other files are a minute old.
    monkeypatch.setattr(idle, "_RIPE", 30 * 10**9)
    host = Evening(memory, GOVERNOR)
    rewrite(host)
    host.event("prepare")
    assert host.for_python() == list(EVENING)


def test_a_vm_with_a_module_of_its_own_has_no_idle_events(memory: Path) -> None:
    host = Evening(memory, GOVERNOR)
    add_a_module(host)
    host.half.age()
    host.event("prepare")
    assert host.for_python() == list(EVENING)


@pytest.mark.parametrize("place", ["start", "start/begin", "start/begin/mine.sh"])
def test_an_event_with_executables_is_not_idle(memory: Path, place: str) -> None:
    host = Evening(memory, GOVERNOR)
    path = host.folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    host.half.age()
    host.event("prepare")
    assert host.for_python() == ["prepare", "start", "release"]


def test_a_function_out_of_a_pool_is_known_only_at_start(memory: Path) -> None:
    """libvirt has no file of this network here, so it may be a pool."""
    host = Evening(memory, "[sriov]\n", domain_xml(functions=(), more=POOL))
    host.event("prepare")
    assert host.for_python() == ["prepare", "start", "started", "release"]


def test_a_dry_run_leaves_no_notes(memory: Path) -> None:
    host = Evening(memory, "dry_run = true\n" + GOVERNOR)
    host.event("prepare")
    assert host.for_python() == list(EVENING)


def test_a_start_that_fails_leaves_none_of_an_earlier_one(memory: Path) -> None:
    host = Evening(memory, IRQS)
    host.event("prepare")
    assert host.for_python() == ["prepare", "stopped", "release"]
    host.xml = domain_xml(functions=())
    with pytest.raises(HookError, match="pin"):
        host.event("prepare")
    assert host.for_python() == list(EVENING)


def test_what_an_event_did_until_stopped_is_undone_then(memory: Path) -> None:
    host = Evening(memory, "[verify]\n")
    host.event("prepare")
    assert "stopped" not in host.for_python()
    host.event("started")
    assert "stopped" in host.for_python()


def test_another_vms_event_that_was_cut_off_is_undone_by_an_idle_one(memory: Path) -> None:
    host = Evening(memory, GOVERNOR)
    host.event("prepare")
    with StateFolder(str(host.half.state)).locked(lambda: None):
        StateFolder(str(host.half.state)).unsettle()
    assert host.for_python() == list(EVENING)
    assert host.event("started")
    assert host.for_python() == OUTER


def deaths(memory: Path, toml: str) -> Iterator[tuple[Evening, dict[str, str]]]:
    """A host after an evening that ended at each moment: in journal, kernel, notes or lock."""
    for moment in range(1000):
        root = memory / str(moment)
        root.mkdir()
        host = Evening(root, toml)
        before = host.kernel.state()
        try:
            host.evening(Fate(moment))
        except Died:
            yield host, before
        else:
            assert moment > 30
            return
        shutil.rmtree(root)


@pytest.mark.parametrize("toml", [GOVERNOR, IRQS])
def test_dying_anywhere_is_undone_by_what_libvirt_calls_next(memory: Path, toml: str) -> None:
    for host, before in deaths(memory, toml):
        host.event("stopped")
        host.half.stop("win11")
        host.event("release")
        assert host.kernel.state() == before
        assert not host.left()


@pytest.mark.parametrize("toml", [GOVERNOR, IRQS])
def test_dying_in_a_start_is_undone_by_the_end_of_an_unmanaged_vm(memory: Path, toml: str) -> None:
    """libvirt's daemon died, too, and never tells of this VM's end."""
    for host, _ in deaths(memory, toml):
        is_cut_off = any(journal.event for journal in host.left())
        assert host.event("release", vm="other") or not is_cut_off
        assert not [one for one in host.left() if one.event]


LATE = {
    "sriov": ["start"],
    "gpu": ["start", "started"],
    "irqs": ["started"],
    "verify": ["started"],
}
"""The facilities that have something to do after `prepare`, in a VM with devices and pins."""


@pytest.mark.parametrize("name", usable())
def test_most_facilities_act_at_prepare_only(name: str) -> None:
    domain = parse(domain_xml(more=PINNED).encode())
    idle = [*idle_events(domain, Config.use([name]), Host(""), ())]
    assert [op for op in ("start", "started") if op not in idle] == LATE.get(name, [])


def test_what_cannot_be_noted_is_not(memory: Path) -> None:
    """Every event is looked into then."""
    host = Evening(memory, GOVERNOR)
    host.half.state.mkdir(exist_ok=True)
    (host.half.state / "idle").touch()
    host.event("prepare")
    assert host.for_python() == list(EVENING)
    assert host.left()


def test_a_name_that_leads_elsewhere_has_no_notes(memory: Path) -> None:
    kept = memory / "state/kept"
    kept.mkdir(parents=True)
    (kept / "started").touch()
    (memory / "state/idle").mkdir()
    Notes(StateFolder(str(memory / "state")), str(memory), "../kept").forget()
    assert (kept / "started").exists()
