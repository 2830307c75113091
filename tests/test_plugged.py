"""What a VM gets while it runs: the functions and vCPUs that it has by then, and whose CPUs."""

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.fakes.kernel import Kernel, Lines
from tests.test_cpus import domain
from tests.test_irqs import host
from tests.test_partition import SLICE
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, running
from vfio_hooks.host.cgroup import ROOT, V1
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.partition import Partition
from vfio_hooks.plugins import cpus, irqs
from vfio_hooks.record import replace
from vfio_hooks.services.vcpus import Vcpus, follow

QEMU = 77
GPU, AUDIO, NIC, HOSTS = "0000:04:00.0", "0000:04:00.1", "0000:05:00.0", "0000:06:00.0"
VGPU = "0000:81:00.4"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A host with two functions in one group, and two with nodes of their own."""
    for address, driver in (
        (GPU, "vfio-pci"),
        (AUDIO, "vfio-pci"),
        (NIC, "vfio-pci"),
        (HOSTS, "nvme"),
        (VGPU, "nvidia"),
    ):
        folder = tmp_path / f"sys/bus/pci/devices/{address}"
        folder.mkdir(parents=True)
        (folder / "driver").symlink_to(f"../../drivers/{driver}")
    (tmp_path / f"sys/bus/pci/devices/{VGPU}/vfio-dev/vfio5").mkdir(parents=True)
    for group, addresses in (("12", (GPU, AUDIO)), ("7", (NIC,)), ("9", (HOSTS,)), ("8", (VGPU,))):
        for address in addresses:
            (tmp_path / f"sys/kernel/iommu_groups/{group}/devices/{address}").mkdir(parents=True)
    device = tmp_path / "sys/class/vfio-dev/vfio3"
    device.mkdir(parents=True)
    (device / "device").symlink_to(f"../../../0000:00:01.0/{NIC}")
    (tmp_path / f"proc/{QEMU}/fd").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("opened", "expected"),
    [
        ([], set()),
        (["/dev/kvm", "/dev/vfio/vfio", "/dev/pts/12", "socket:[12]", "/tmp/dev/vfio/12"], set()),
        (["/dev/vfio/12"], {GPU, AUDIO}),
        (["/dev/vfio/12", "/dev/iommu", "/dev/vfio/devices/vfio3"], {GPU, AUDIO, NIC}),
        (["/dev/vfio/devices/vfio4"], set()),
        # What is in the group and is not VFIO's is the host's.
        (["/dev/vfio/9"], set()),
        (["/dev/vfio/8"], {VGPU}),
    ],
)
def test_the_functions_that_qemu_has_open(
    tree: Path, opened: list[str], expected: set[str]
) -> None:
    for number, path in enumerate(opened):
        (tree / f"proc/{QEMU}/fd/{number}").symlink_to(path)
    assert running.functions(Host(str(tree)), QEMU) == expected


def test_a_qemu_that_has_ended(tree: Path) -> None:
    assert running.functions(Host(str(tree)), QEMU + 1) == set()
    assert running.vcpu_pins(Host(str(tree)), QEMU + 1) == {}


@pytest.mark.parametrize(
    ("lines", "top"),
    [
        ("0::/machine.slice/machine-qemu.scope/libvirt/emulator", ROOT),
        (
            "12:cpu,cpuacct:/elsewhere/libvirt/emulator\n"
            "5:cpuset:/machine.slice/machine-qemu.scope/libvirt/emulator\n0::/x",
            V1,
        ),
        ("5:cpuset:/libvirtd\n0::/machine.slice/machine-qemu.scope/libvirt/emulator", ROOT),
        ("0::/user.slice", ""),
        ("", ""),
    ],
)
def test_the_cpus_that_vcpus_are_kept_to(lines: str, top: str) -> None:
    kernel = Kernel()
    kernel.files[f"/proc/{QEMU}/cgroup"] = lines
    for root in (ROOT, V1):
        scope = f"{root}/machine.slice/machine-qemu.scope/libvirt"
        for name, pin in (("vcpu0", "4"), ("vcpu10", "5-6"), ("vcpu1", ""), ("emulator", "0-1")):
            kernel.files[f"{scope}/{name}/cpuset.cpus"] = f"{pin}\n" * (root == top)
    expected = {0: parse_list("4"), 10: parse_list("5-6")} if top else {}
    assert running.vcpu_pins(kernel, QEMU) == expected


class Running:
    """A VM on a host, with [cpus] and [irqs], whose first vCPU is pinned to CPU 4."""

    def __init__(self, folder: Path, partition: bool = False) -> None:
        self.kernel = host()
        self.folder = folder
        self.log = Lines()
        self.vm = replace(domain("4"), idle_vcpus=frozenset({1}))
        self.options = cpus.Options(partition="isolated" if partition else None)
        scope = f"machine-qemu-{self.vm.name}.scope"
        self.groups = f"{SLICE}/{scope}/libvirt"
        self.kernel.files |= {
            "/proc/sys/kernel/osrelease": "6.12.1\n",
            f"/run/libvirt/qemu/{self.vm.name}.pid": f"{QEMU}\n",
            f"/proc/{QEMU}/cgroup": f"0::/machine.slice/{scope}/libvirt/emulator\n",
            f"{SLICE}/{scope}/cpuset.cpus.exclusive": "\n",
            f"{SLICE}/{scope}/cpuset.cpus.partition": "member\n",
            f"{self.groups}/cpuset.cpus.exclusive": "\n",
            f"{self.groups}/cpuset.cpus.partition": "member\n",
        }
        self.plug(0, "4")

    def plug(self, number: int, pin: str) -> None:
        group = f"{self.groups}/vcpu{number}"
        self.kernel.files[f"{group}/cpuset.cpus"] = f"{pin}\n"
        self.kernel.files.setdefault(f"{group}/cpuset.cpus.exclusive", "\n")
        self.kernel.files.setdefault(f"{group}/cpuset.cpus.partition", "member\n")

    def engine(self) -> Engine:
        return Engine(self.kernel, StateFolder(str(self.folder)), self.log)

    def start(self, vm: Domain | None = None) -> None:
        vm = vm or self.vm
        for op in ("prepare", "started") if vm is self.vm else ("prepare",):
            event = Event(vm.name, op)
            steps = [
                *cpus.plan(event, vm, self.options, self.kernel),
                *irqs.plan(event, vm, irqs.Options(), self.kernel),
            ]
            steps = [step for step in steps if not isinstance(step.knob, Command)]
            self.engine().perform(op, vm.uuid, vm.name, lambda _, steps=steps: steps)  # type: ignore[misc]

    def vcpus(self) -> Vcpus:
        return Vcpus(self.engine(), self.vm.uuid, self.vm.name, QEMU, parse_list("4"))

    def stop(self, vm: Domain | None = None) -> list[str]:
        uuid = (vm or self.vm).uuid
        return self.engine().undo("stopped", uuid) + self.engine().undo("release", uuid)

    def left(self) -> tuple[str, str]:
        """The CPUs of system services, and of an interrupt of the host's, of those online."""
        knobs = AllowedCpus("system.slice"), IrqAffinity(24)
        one, other = (parse_list(knob.read(self.kernel)) & parse_list("0-7") for knob in knobs)
        return format_list(one), format_list(other)


@pytest.mark.parametrize(
    ("later", "left"),
    [
        # Nothing that is new.
        ([], "0-3,5-7"),
        ([(0, "4")], "0-3,5-7"),
        # A pin to every CPU is none.
        ([(1, "0-7")], "0-3,5-7"),
        ([(1, "5")], "0-3,6-7"),
        ([(1, "5"), (1, "7")], "0-3,6"),
        ([(0, "4-5"), (1, "6")], "0-3,7"),
    ],
)
def test_the_host_leaves_the_cpus_of_vcpus_that_come_later(
    memory: Path, later: list[tuple[int, str]], left: str
) -> None:
    vm = Running(memory)
    at_first = {number: "4" * (number == 0) for number, _ in later}
    for number, pin in at_first.items():
        vm.plug(number, pin)
    before = vm.kernel.state()
    vm.start()
    vcpus = vm.vcpus()
    for number, pin in later:
        vm.plug(number, pin)
        vcpus.look()
        vcpus.look()
    assert vm.left() == (left, left)
    assert vm.stop() == []
    for number, pin in at_first.items():
        vm.plug(number, pin)
    assert vm.kernel.state() == before
    assert not list(memory.glob("*.journal"))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("between", [True, False])
def test_beside_another_vm(memory: Path, first: bool, between: bool) -> None:
    """Which starts before or after the vCPU is plugged in, and ends before or after the VM."""
    vm = Running(memory)
    vm.plug(1, "")
    before = vm.kernel.state()
    other = domain("6", name="other")
    vm.start()
    vcpus = vm.vcpus()
    if between:
        vm.start(other)
    vm.plug(1, "5")
    vcpus.look()
    if not between:
        vm.start(other)
    assert vm.left()[1] == "0-3,7"
    assert vm.stop(other if first else None) == []
    assert vm.left()[1] == ("0-3,6-7" if first else "0-5,7")
    assert vm.stop(None if first else other) == []
    vm.plug(1, "")
    assert vm.kernel.state() == before
    assert not list(memory.glob("*.journal"))


def test_what_leaves_the_host_no_cpu_is_told_and_left_out(
    memory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vm = Running(memory)
    vm.plug(1, "")
    vm.start()
    vcpus, before = vm.vcpus(), vm.left()
    vm.plug(1, "0-3")
    vm.plug(0, "4-7")
    vcpus.look()
    assert vm.left() == before
    told = " ".join(vm.log.warnings) + capsys.readouterr().out
    assert "no CPU would be left" in told
    assert vm.stop() == []


def test_a_vm_that_has_ended_meanwhile_gets_nothing(memory: Path) -> None:
    vm = Running(memory)
    vm.plug(1, "")
    before = vm.kernel.state()
    vm.start()
    vcpus = vm.vcpus()
    assert vm.stop() == []
    vm.plug(1, "5")
    vcpus.look()
    vm.plug(1, "")
    assert vm.kernel.state() == before
    assert not list(memory.glob("*.journal"))


def test_a_partition_for_it_as_well(memory: Path) -> None:
    vm = Running(memory, partition=True)
    before = vm.kernel.state()
    vm.start()
    vcpus = vm.vcpus()
    added = set(vm.kernel.files)
    vm.plug(1, "5")
    added = set(vm.kernel.files) - added
    vcpus.look()
    for number, pin in ((0, "4"), (1, "5")):
        group = f"{vm.groups}/vcpu{number}"
        assert Partition(group).read(vm.kernel) == "isolated"
        assert vm.kernel.read(f"{group}/cpuset.cpus.exclusive") == pin
    assert vm.kernel.read(f"{SLICE}/cpuset.cpus.exclusive") == "4-5"
    assert vm.stop() == []
    for file in added:
        del vm.kernel.files[file]
    assert vm.kernel.state() == before


def test_a_vcpu_that_is_plugged_in_again_has_its_partition_again(memory: Path) -> None:
    vm = Running(memory, partition=True)
    before = vm.kernel.state()
    vm.start()
    vcpus = vm.vcpus()
    without = set(vm.kernel.files)
    for _ in range(2):
        vm.plug(1, "5")
        added = set(vm.kernel.files) - without
        vcpus.look()
        group = f"{vm.groups}/vcpu1"
        assert Partition(group).read(vm.kernel) == "isolated"
        assert vm.kernel.read(f"{group}/cpuset.cpus.exclusive") == "5"
        for file in added:
            del vm.kernel.files[file]
        vcpus.look()
    assert vm.log.warnings == []
    vm.plug(1, "5")
    vcpus.look()
    assert vm.stop() == []
    assert Partition(group).read(vm.kernel) == "member"
    for file in added:
        del vm.kernel.files[file]
    assert vm.kernel.state() == before


def test_what_failed_is_tried_again(memory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not at each look, as it is told of each time."""
    vm = Running(memory)
    vm.plug(1, "")
    vm.start()
    engine = vm.engine()
    vcpus = Vcpus(engine, vm.vm.uuid, vm.vm.name, QEMU, parse_list("4"))
    perform, engine.perform = engine.perform, refused  # type: ignore[assignment,method-assign]
    vm.plug(1, "5")
    for _ in range(60):
        vcpus.look()
    assert format_list(vcpus.known) == "4"
    assert capsys.readouterr().out == "no room\n"
    engine.perform = perform  # type: ignore[method-assign]
    for _ in range(2):
        vcpus.look()
    assert format_list(vcpus.known) == "4-5"
    assert vm.left()[0] == "0-3,6-7"


def refused(*_: object) -> NoReturn:
    raise HookError("no room")


def test_a_look_each_second_until_the_end() -> None:
    looks: list[int] = []

    def ended(seconds: float) -> bool:
        assert seconds == 1.0
        return len(looks) == 2

    follow(lambda: looks.append(1), ended)
    assert len(looks) == 2


def services(vm: Domain, op: str = "started") -> Iterator[tuple[str, ...]]:
    """The last words of the services that [cpus] has beside a VM."""
    for step in cpus.plan(Event(vm.name, op), vm, cpus.Options(), host()):
        if isinstance(step.knob, Command):
            yield step.knob.do[-4:]


def test_a_service_only_for_a_vm_that_can_get_vcpus() -> None:
    vm = domain("4", "5")
    assert list(services(vm)) == []
    more = replace(vm, idle_vcpus=frozenset({1}))
    (words,) = services(more)
    assert words == (
        "vfio_hooks.services.vcpus",
        vm.uuid,
        f"/run/libvirt/qemu/{vm.name}.pid",
        format_list(vm.pinned),
    )
