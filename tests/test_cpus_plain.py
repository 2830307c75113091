"""The cpus plugin where no systemd looks after control groups: cgroup v2 alone, and cgroup v1."""

import errno
import os
from pathlib import Path

import pytest

from tests.fakes import cgroups
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.test_cpus import domain, perform, planned, undo
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.host.cgroup import OWN, ROOT, V1, layout
from vfio_hooks.knobs.controller import Controller
from vfio_hooks.knobs.file import CpuMask
from vfio_hooks.knobs.group_cpus import GroupCpus
from vfio_hooks.knobs.host_tasks import HostTasks
from vfio_hooks.knobs.thread import ThreadAffinity


def host(version: str) -> Kernel:
    kernel = a_host()
    del kernel.files["/run/systemd/system/placeholder"]
    for unit in ("init.scope", "system.slice", "user.slice"):
        for name in [name for name in kernel.files if name.startswith(f"{ROOT}/{unit}/")]:
            del kernel.files[name]
    other = {"v1": f"{ROOT}/cgroup.controllers", "v2": f"{V1}/"}[version]
    for name in [name for name in kernel.files if name.startswith(other)]:
        del kernel.files[name]
    assert layout(kernel) == version
    return kernel


def tasks(kernel: Kernel, group: str) -> set[str]:
    return set(kernel.files.get(f"{group}/cgroup.procs", "").split())


TOPS = {"v2": ROOT, "v1": V1}
LAST = {"v2": "15", "v1": "7"}
"""The last CPU: sets of v2 have those that are not online as well."""
PROGRAMS = set(map(str, cgroups.PROGRAMS))


@pytest.mark.parametrize("version", TOPS)
def test_programs_move_and_come_back(version: str, memory: Path) -> None:
    kernel, top, vm = host(version), TOPS[version], domain("4", "5")
    kernel.files[f"{top}/openrc.sshd/cgroup.procs"] = "900\n"
    before = kernel.state()
    perform(kernel, memory, vm)
    assert tasks(kernel, f"{top}/{OWN}") == PROGRAMS
    assert tasks(kernel, top) == {str(cgroups.KERNELS)}
    assert tasks(kernel, f"{top}/openrc.sshd") == {"900"}
    assert kernel.read(f"{top}/{OWN}/cpuset.cpus") == f"0-3,6-{LAST[version]}"
    sshd = {"v2": "0-3,6-15", "v1": "0-3"}[version]
    assert kernel.read(f"{top}/openrc.sshd/cpuset.cpus") == sshd
    assert undo(kernel, memory, vm) == []
    assert kernel.state() == before


@pytest.mark.parametrize("version", TOPS)
@pytest.mark.parametrize("order", [("one", "two"), ("two", "one")])
def test_two_vms(version: str, order: tuple[str, str], memory: Path) -> None:
    kernel, top = host(version), TOPS[version]
    vms = {"one": domain("4", "5", name="one"), "two": domain("5-6", name="two")}
    before = kernel.state()
    left = {"one": "0-4,7", "two": "0-3,6-7", "both": "0-3,7"}
    if version == "v2":
        left = {"one": "0-4,7-15", "two": "0-3,6-15", "both": "0-3,7-15"}
    for vm in vms.values():
        perform(kernel, memory, vm)
    assert kernel.read(f"{top}/{OWN}/cpuset.cpus") == left["both"]
    assert undo(kernel, memory, vms[order[0]]) == []
    assert kernel.read(f"{top}/{OWN}/cpuset.cpus") == left[order[0]]
    assert tasks(kernel, f"{top}/{OWN}") == PROGRAMS
    assert undo(kernel, memory, vms[order[1]]) == []
    assert kernel.state() == before


class Starting(Kernel):
    """A kernel in which a program starts another one while it is moved."""

    def write(self, name: str, text: str) -> None:
        super().write(name, text)
        if name == f"{ROOT}/{OWN}/cgroup.procs" and text == "501":
            self.add_thread(502, "child", "0-7", flags=0x400100)
            self.files[f"{ROOT}/cgroup.procs"] += "502\n"


def test_what_is_started_meanwhile_moves_too(memory: Path) -> None:
    kernel = Starting()
    kernel.__dict__.update(host("v2").__dict__)
    perform(kernel, memory, domain("4"))
    assert tasks(kernel, f"{ROOT}/{OWN}") == {*PROGRAMS, "502"}


def test_what_is_planned() -> None:
    knobs = [step.knob for step in planned(host("v2"), domain("4"))]
    assert [knob for knob in knobs if not isinstance(knob, ThreadAffinity)] == [
        Controller(ROOT, "cpuset"),
        GroupCpus(f"{ROOT}/openrc.sshd"),
        HostTasks(ROOT),
    ]


def test_guests_are_left_alone() -> None:
    kernel = host("v1")
    for group in (
        "machine",
        "machine/qemu-1-vm.libvirt-qemu",
        "games",
        "games/qemu-2-b.libvirt-qemu",
    ):
        cgroups.make(kernel, f"{V1}/{group}")
        kernel.files[f"{V1}/{group}/cpuset.cpus"] = "0-7\n"
    knobs = [step.knob for step in planned(kernel, domain("4"))]
    assert [knob for knob in knobs if isinstance(knob, CpuMask)] == [
        CpuMask(f"{V1}/openrc.sshd/cpuset.cpus")
    ]


def test_groups_within_groups(memory: Path) -> None:
    """In v1 an inner group is made smaller before the outer one, and larger after it."""
    kernel, vm = host("v1"), domain("4", "5")
    for group, cpus in (("lxc", "2-5"), ("lxc/a", "4-5"), ("lxc/b", "3-4"), ("lxc/new", "")):
        cgroups.make(kernel, f"{V1}/{group}")
        kernel.files[f"{V1}/{group}/cpuset.cpus"] = cpus + "\n"
    before = kernel.state()
    perform(kernel, memory, vm)
    groups = ("lxc", "lxc/a", "lxc/b")
    assert [kernel.read(f"{V1}/{group}/cpuset.cpus") for group in groups] == ["2-3", "2-3", "3"]
    assert undo(kernel, memory, vm) == []
    assert kernel.state() == before
    kernel.files[f"{V1}/lxc/cpuset.cpus"] = "4-5\n"
    with pytest.raises(HookError, match="would have to leave CPUs 4-5 together with the group"):
        planned(kernel, vm)


def test_cpus_that_a_group_has_to_itself() -> None:
    kernel = host("v1")
    kernel.files[f"{V1}/openrc.sshd/cpuset.cpus"] = "0-1\n"
    kernel.files[f"{V1}/openrc.sshd/cpuset.cpu_exclusive"] = "1\n"
    (step,) = [step for step in planned(kernel, domain("4")) if step.knob == HostTasks(V1)]
    assert getattr(step.share, "cpus", None) == "0-1,4"


def test_a_group_that_cannot_be_removed_has_all_cpus_again(memory: Path) -> None:
    kernel, vm = host("v1"), domain("4")
    perform(kernel, memory, vm)
    cgroups.make(kernel, f"{V1}/{OWN}/theirs")
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    (problem,) = engine.undo("release", vm.uuid)
    assert "groups or tasks that are not ours" in problem
    assert kernel.read(f"{V1}/{OWN}/cpuset.cpus") == "0-7"
    cgroups.remove(kernel, f"{V1}/{OWN}/theirs")
    assert engine.undo("undo", vm.uuid) == []
    assert not kernel.exists(f"{V1}/{OWN}")


def test_a_controller_that_others_use_stays_on(memory: Path) -> None:
    kernel, vm = host("v2"), domain("4")
    kernel.files[f"{ROOT}/openrc.sshd/cgroup.procs"] = "900\n"
    perform(kernel, memory, vm)
    kernel.hands_on = True
    assert undo(kernel, memory, vm) == []
    assert "cpuset" in kernel.read(f"{ROOT}/cgroup.subtree_control")
    # A set cannot be emptied; all CPUs are the same.
    assert kernel.read(f"{ROOT}/openrc.sshd/cpuset.cpus") == "0-15"


def test_no_cpusets_at_all() -> None:
    kernel = host("v1")
    for name in [name for name in kernel.files if name.startswith(V1)]:
        del kernel.files[name]
    with pytest.raises(HookError, match="no cpusets: the control groups"):
        planned(kernel, domain("4"))


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ESRCH, []),
        (errno.EINVAL, [f"{V1}: task 501: cannot move: Invalid argument"]),
    ],
)
def test_a_task_that_cannot_be_moved(number: int, told: list[str]) -> None:
    """One that has ended needs no word; one that the kernel keeps stays, and the others go."""
    kernel, lines, knob = host("v1"), list[str](), HostTasks(V1)
    kernel.tell = lines.append
    write = kernel.write

    def refused(name: str, text: str) -> None:
        if name.endswith("/tasks") and text == "501":
            if number == errno.ESRCH:
                kernel.files[f"{V1}/tasks"] = kernel.files[f"{V1}/tasks"].replace("501\n", "")
            raise OSError(number, os.strerror(number), name)
        write(name, text)

    kernel.write = refused  # type: ignore[method-assign]
    knob.write(kernel, "0-3")
    assert lines == told
    assert kernel.read(f"{V1}/{OWN}/tasks").split() == ["500"]
