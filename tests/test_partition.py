"""Partitions for a VM's vCPUs: what is planned and when, what the kernel refuses, the undo."""

from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel, Lines
from tests.test_cpus import domain, host
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.knobs.file import CpuMask
from vfio_hooks.knobs.partition import Partition
from vfio_hooks.plugins import cpus
from vfio_hooks.plugins.cpus import Options
from vfio_hooks.record import replace
from vfio_hooks.sharing import Include, Override
from vfio_hooks.steps import Step

SLICE = f"{ROOT}/machine.slice"


def running(kernel: Kernel, vm: Domain) -> str:
    """Make a VM a running one; returns its scope."""
    scope = f"machine-qemu-{vm.name}.scope"
    pid = str(1000 + sum(vm.name.encode()))
    kernel.files[f"/run/libvirt/qemu/{vm.name}.pid"] = pid
    kernel.files[f"/proc/{pid}/cgroup"] = f"0::/machine.slice/{scope}/libvirt/emulator\n"
    for group in ("", "/libvirt", "/libvirt/vcpu0", "/libvirt/vcpu1"):
        kernel.files[f"{SLICE}/{scope}{group}/cpuset.cpus.exclusive"] = "\n"
        kernel.files[f"{SLICE}/{scope}{group}/cpuset.cpus.partition"] = "member\n"
    return f"{SLICE}/{scope}"


def planned(kernel: Kernel, vm: Domain, op: str, kernel_has: str = "6.12.1") -> list[Step]:
    kernel.files["/proc/sys/kernel/osrelease"] = kernel_has
    return list(cpus.plan(Event(vm.name, op), vm, Options(partition="isolated"), kernel))


def test_from_the_outermost_group_to_the_vcpus() -> None:
    kernel, vm = host(), domain("4", "5")
    scope = running(kernel, vm)
    assert [(step.knob, step.share) for step in planned(kernel, vm, "started")] == [
        (CpuMask(f"{SLICE}/cpuset.cpus.exclusive"), Include("4-5")),
        (CpuMask(f"{scope}/cpuset.cpus.exclusive"), Override("4-5")),
        (CpuMask(f"{scope}/libvirt/cpuset.cpus.exclusive"), Override("4-5")),
        (CpuMask(f"{scope}/libvirt/vcpu0/cpuset.cpus.exclusive"), Override("4")),
        (Partition(f"{scope}/libvirt/vcpu0"), Override("isolated")),
        (CpuMask(f"{scope}/libvirt/vcpu1/cpuset.cpus.exclusive"), Override("5")),
        (Partition(f"{scope}/libvirt/vcpu1"), Override("isolated")),
    ]


def test_a_vcpu_that_is_not_plugged_in_is_left_out() -> None:
    kernel, vm = host(), domain("4", "5", "6")
    scope = running(kernel, vm)
    planned_for = [step.knob for step in planned(kernel, vm, "started")]
    assert [knob for knob in planned_for if isinstance(knob, Partition)] == [
        Partition(f"{scope}/libvirt/vcpu{number}") for number in (0, 1)
    ]


def test_a_vm_that_does_not_run_has_no_groups_yet() -> None:
    assert not planned(host(), domain("4", "5"), "started")


@pytest.mark.parametrize(
    ("release", "pins", "told"),
    [
        ("6.1.0-9-amd64", ("4", "5"), "needs Linux 6.7 or newer"),
        ("6.6.1", ("4", "5"), "needs Linux 6.7 or newer"),
        ("6.7.0", ("4-5", "5-6"), "vCPUs 0 and 1 of domain vm are both pinned to CPUs 5,"),
    ],
)
def test_what_cannot_work_is_told_before_the_start(
    release: str, pins: tuple[str, ...], told: str
) -> None:
    with pytest.raises(HookError, match=told):
        planned(host(), domain(*pins), "prepare", release)


@pytest.mark.parametrize("op", ["prepare", "started"])
def test_a_slice_that_is_a_partition_itself(op: str) -> None:
    kernel, vm = host(), domain("4", "5")
    running(kernel, vm)
    kernel.files[f"{SLICE}/cpuset.cpus.partition"] = "root\n"
    with pytest.raises(HookError) as caught:
        planned(kernel, vm, op)
    assert str(caught.value) == (
        "machine.slice is itself a partition (root), and the kernel makes no partitions of "
        "vCPUs inside it; remove CPUSetPartition= from machine.slice, or remove partition from "
        "[cpus]"
    )


def test_a_vcpu_without_a_group() -> None:
    kernel, vm = host(), domain("4")
    running(kernel, vm)
    kernel.files["/proc/1227/cgroup"] = "0::/user.slice\n"
    with pytest.raises(HookError, match=r"keeps domain vm in /user.slice, where vCPUs have no"):
        planned(kernel, vm, "started")


class Refusing(Kernel):
    """A kernel whose scheduler makes no partition."""

    def write(self, name: str, text: str) -> None:
        if name.endswith(".partition") and text != "member":
            text += " invalid (Cpu list in cpuset.cpus not exclusive)"
        super().write(name, text)


def test_what_the_kernel_says_when_it_refuses(memory: Path) -> None:
    kernel, vm = Refusing(), domain("4", "5")
    kernel.__dict__.update(host().__dict__)
    running(kernel, vm)
    before = kernel.state()
    steps = planned(kernel, vm, "started")
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    with pytest.raises(HookError, match=r"isolated invalid \(Cpu list in cpuset.cpus not excl"):
        engine.perform("started", vm.uuid, vm.name, lambda _: steps)
    assert kernel.state() == {**before, "/proc/sys/kernel/osrelease": "6.12.1"}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("ended", [True, False])
def test_two_vms(order: tuple[int, int], ended: bool, memory: Path) -> None:
    """When a VM has ended its groups are gone, and with them all but its part of the slice's."""
    kernel = host()
    vms = [domain("4", name="one"), replace(domain("5", name="two"))]
    scopes = [running(kernel, vm) for vm in vms]
    before = kernel.state()
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    for vm in vms:
        steps = planned(kernel, vm, "started")
        engine.perform("started", vm.uuid, vm.name, lambda _, steps=steps: steps)  # type: ignore[misc]
    assert kernel.read(f"{SLICE}/cpuset.cpus.exclusive") == "4-5"
    for number in order:
        if ended:
            for name in [name for name in kernel.files if name.startswith(scopes[number])]:
                del kernel.files[name]
        assert engine.undo("release", vms[number].uuid) == []
        left = {0: "5", 1: "4"}[number] if number == order[0] else ""
        assert kernel.read(f"{SLICE}/cpuset.cpus.exclusive") == left
    if not ended:
        assert kernel.state() == {**before, "/proc/sys/kernel/osrelease": "6.12.1"}
