"""What an event comes to, on a host in memory: the plan, the executables, and what is told."""

from pathlib import Path

import pytest

from tests.fakes.cpufreq import FOLDER
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.hosttree import domain_xml
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError, Interrupted, Strict
from vfio_hooks.event import Event
from vfio_hooks.hook import handle, scripts
from vfio_hooks.host import WritableHost
from vfio_hooks.paths import Paths
from vfio_hooks.record import field, record

pytestmark = pytest.mark.real_processes
GOVERNOR, PLUGIN = "[governor]\n", "vfio_hooks.plugins.governor"
POLICY = f"{FOLDER}/policy2/scaling_governor"
UUID = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"
OTHER = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c12"
PINNED = "<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='4'/></cputune>"
BROKEN = "[governor]\nno_such_key = 1\n"


@record
class OnKernel(Paths):
    """Folders for one test, and a host in memory."""

    kernel: Kernel = field(default_factory=a_host)

    def host(self) -> WritableHost:
        return self.kernel


class Vm:
    """A VM and its folder, whose events are handled one by one."""

    def __init__(self, memory: Path) -> None:
        self.folder = memory / "hooks/qemu.d/win11"
        self.folder.mkdir(parents=True)
        self.paths = OnKernel(str(memory / "hooks"), str(memory / "state"))
        self.ran = memory / "ran"
        self.log = Lines()

    def wants(self, toml: str) -> None:
        (self.folder / "vm.toml").write_text(toml)

    def script(self, op: str, text: str = "", subop: str = "begin") -> str:
        """Make an executable for an event, which notes that it ran."""
        path = self.folder / op / subop
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\necho {op} >>{self.ran}\n{text}\n")
        path.chmod(0o755)
        return str(path)

    def event(self, op: str, xml: str | None = None, vm: str = "win11") -> None:
        subop = "end" if op in ("stopped", "release") else "begin"
        text = domain_xml(functions=(), more=PINNED) if xml is None else xml
        handle(Event(vm, op, subop), text.encode(), self.paths, self.log)

    @property
    def governor(self) -> str:
        return self.paths.kernel.files[POLICY].strip()

    @property
    def scripts(self) -> list[str]:
        return self.ran.read_text().split() if self.ran.exists() else []


@pytest.fixture
def vm(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Vm:
    monkeypatch.setattr(scripts, "STREAM", str(memory / "stream"))
    return Vm(memory)


def test_an_evening(vm: Vm) -> None:
    vm.wants(GOVERNOR)
    before = vm.governor
    for op in ("prepare", "start", "started", "stopped"):
        vm.event(op)
        assert vm.governor == "performance" != before
        assert f"win11: {op}" in [line.partition(" (")[0] for line in vm.log.infos]
    vm.event("release")
    assert vm.governor == before
    assert not vm.log.warnings


def test_a_vm_without_a_folder_is_left_alone(vm: Vm) -> None:
    vm.event("prepare", vm="other")
    assert vm.log == Lines()
    assert not Path(vm.paths.state).exists()


@pytest.mark.parametrize("op", ["migrate", "restore", "reconnect", "attach"])
@pytest.mark.parametrize("has_script", [True, False])
def test_other_operations_run_executables_alone(vm: Vm, op: str, has_script: bool) -> None:
    vm.wants(GOVERNOR)
    if has_script:
        vm.script(op)
    before = vm.governor
    vm.event(op)
    assert vm.scripts == [op] * has_script
    assert vm.governor == before


def test_executables_run_before_the_plan_and_see_that_it_is_right(vm: Vm) -> None:
    vm.wants(GOVERNOR)
    path = vm.script("prepare")
    vm.event("prepare")
    run = vm.log.infos.index(f"win11: running {path}")
    changed = [n for n, line in enumerate(vm.log.infos) if "→ performance" in line]
    assert changed
    assert run < changed[0]


def test_executables_do_not_run_for_a_plan_that_is_wrong(vm: Vm) -> None:
    vm.wants("[[write]]\npath = '/sys/none'\nvalue = '1'\n")
    vm.script("prepare")
    with pytest.raises(HookError, match="/sys/none: no such file on this host"):
        vm.event("prepare")
    assert vm.scripts == []


def test_an_executable_that_fails_stops_the_start(vm: Vm) -> None:
    vm.wants(GOVERNOR)
    path = vm.script("prepare", "exit 3")
    before = vm.governor
    with pytest.raises(HookError, match=f"^{path}: exit code 3$"):
        vm.event("prepare")
    assert vm.governor == before


def test_a_rehearsal_changes_nothing(vm: Vm) -> None:
    vm.wants(f"dry_run = true\n{GOVERNOR}")
    path = vm.script("prepare")
    before = vm.paths.kernel.state()
    vm.event("prepare")
    assert f"win11: would run {path}" in vm.log.infos
    assert any(line.startswith("win11: would be: governor: ") for line in vm.log.infos)
    assert vm.scripts == []
    assert vm.paths.kernel.state() == before
    assert StateFolder(vm.paths.state).uuids() == []


def test_a_rehearsal_tells_what_would_fail(vm: Vm) -> None:
    vm.wants("dry_run = true\n[[write]]\npath = '/sys/none'\nvalue = '1'\n")
    vm.event("prepare")
    assert [line.partition(" on this host")[0] for line in vm.log.warnings] == [
        "win11: would fail: write: /sys/none: no such file"
    ]


@pytest.mark.parametrize(("strict", "kind"), [("true", Strict), ("false", HookError)])
@pytest.mark.parametrize("op", ["start", "started"])
def test_a_failure_of_a_guest_that_runs_ends_it_on_demand(
    vm: Vm, strict: str, kind: type[HookError], op: str
) -> None:
    vm.wants(f"strict_started = {strict}\n{GOVERNOR}")
    vm.script(op, "exit 3")
    with pytest.raises(HookError, match="exit code 3") as failure:
        vm.event(op)
    assert type(failure.value) is (kind if op == "started" else HookError)


def test_what_cannot_be_read_of_the_xml_is_logged(vm: Vm) -> None:
    vm.wants(GOVERNOR)
    vm.event("prepare", domain_xml(functions=(), more=f"{PINNED}<memory unit='parsec'>1</memory>"))
    assert any("parsec" in line for line in vm.log.infos)


def test_what_may_fail_on_this_host_is_a_warning(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, at the first event of a start."""
    doubt = HookError("the governor may not stick", "watch it")
    monkeypatch.setattr(f"{PLUGIN}.doubts", lambda *_: [doubt], raising=False)
    vm.wants(GOVERNOR)
    vm.event("prepare")
    vm.event("start")
    assert vm.log.warnings == ["win11: governor: the governor may not stick; watch it"]


def test_what_a_start_has_taught_may_not_be_noted(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(f"{PLUGIN}.after_start", fails, raising=False)
    vm.wants(GOVERNOR)
    vm.event("prepare")
    told = "win11: governor: this could not be noted: [Errno 30] Read-only file system"
    assert vm.log.infos[-1] == told
    assert vm.governor == "performance"


def test_the_end_is_undone_before_its_executables_run(vm: Vm) -> None:
    vm.wants(GOVERNOR)
    before = vm.governor
    vm.event("prepare")
    vm.script("release", "exit 3", "end")
    with pytest.raises(HookError, match="exit code 3"):
        vm.event("release")
    assert vm.governor == before
    assert vm.scripts == ["release"]


def test_nothing_that_was_written_since_keeps_the_end_from_being_handled(vm: Vm) -> None:
    vm.wants(GOVERNOR)
    before = vm.governor
    vm.event("prepare")
    vm.wants(BROKEN)
    vm.script("release", "", "end")
    with pytest.raises(HookError, match="no_such_key"):
        vm.event("release")
    assert (vm.governor, vm.scripts) == (before, ["release"])


@pytest.mark.parametrize("xml", ["", "<domain>"])
def test_without_usable_xml_the_name_finds_what_to_undo(vm: Vm, xml: str) -> None:
    vm.wants(GOVERNOR)
    before = vm.governor
    vm.event("prepare")
    vm.event("release", xml)
    assert vm.governor == before


@pytest.mark.parametrize("had_begun", [True, False])
def test_a_rehearsed_end_runs_nothing_but_where_the_start_was_real(vm: Vm, had_begun: bool) -> None:
    if had_begun:
        vm.wants(GOVERNOR)
        vm.event("prepare")
    vm.wants(f"dry_run = true\n{GOVERNOR}")
    path = vm.script("release", "", "end")
    vm.event("release")
    assert vm.scripts == ["release"] * had_begun
    assert (f"win11: would run {path}" in vm.log.infos) is not had_begun


@pytest.mark.parametrize("name", ["other", "../qemu.d/win11", "win11/"])
def test_the_end_of_no_vm_of_ours_runs_nothing(vm: Vm, name: str) -> None:
    vm.script("release", "", "end")
    vm.event("release", vm=name)
    assert vm.scripts == []


def test_an_interrupted_undo_runs_no_executables(vm: Vm, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted("stopped by SIGTERM")

    vm.wants(GOVERNOR)
    vm.event("prepare")
    vm.script("release", "", "end")
    monkeypatch.setattr("vfio_hooks.engine.Engine.undo", interrupted)
    with pytest.raises(Interrupted):
        vm.event("release")
    assert vm.scripts == []


def test_a_defect_in_the_undo_is_told_after_the_executables(
    vm: Vm, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError("a defect")

    vm.wants(GOVERNOR)
    vm.event("prepare")
    vm.script("release", "exit 3", "end")
    monkeypatch.setattr("vfio_hooks.engine.Engine.undo", fails)
    with pytest.raises(HookError, match=r"^ZeroDivisionError: a defect; .*: exit code 3$"):
        vm.event("release")


@pytest.mark.parametrize("is_busy", [True, False])
def test_the_end_of_another_vm_finishes_what_was_cut_off(vm: Vm, is_busy: bool) -> None:
    """Unless an event is being handled: then it is not cut off."""
    vm.wants(GOVERNOR)
    before = vm.governor
    vm.event("prepare")
    folder = StateFolder(vm.paths.state)
    folder.load(UUID).begin("release", 9)
    folder.disk.close()
    other = domain_xml("other", OTHER, ())
    if is_busy:
        with folder.locked(lambda: None):
            vm.event("release", other, "other")
    else:
        vm.event("release", other, "other")
    assert (vm.governor == before) is not is_busy
    assert bool(folder.uuids()) is is_busy
