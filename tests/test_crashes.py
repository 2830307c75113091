"""Die before, in and after every single write of journal and kernel: undo restores the host."""

import copy
import getpass
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.effort import effort
from tests.fakes import irqbalance, sriov
from tests.fakes.death import Died, Fate, MortalDisk, MortalKernel, Outlived
from tests.fakes.kernel import Kernel, Lines, a_host
from tests.fakes.sriov import PF
from vfio_hooks.engine import Engine
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.host.cgroup import ROOT, V1
from vfio_hooks.knobs import KINDS, Knob
from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.announced import Announced
from vfio_hooks.knobs.bar_size import BarSize
from vfio_hooks.knobs.boot_picture import BootPicture
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.console import Console
from vfio_hooks.knobs.controller import Controller
from vfio_hooks.knobs.display_layout import DisplayLayout
from vfio_hooks.knobs.energy import EnergyPreference
from vfio_hooks.knobs.file import CpuMask, File
from vfio_hooks.knobs.frequency import Frequency
from vfio_hooks.knobs.governor import Governor
from vfio_hooks.knobs.group_cpus import GroupCpus
from vfio_hooks.knobs.host_tasks import HostTasks
from vfio_hooks.knobs.irq import IrqAffinity, IrqDefault
from vfio_hooks.knobs.irqbalance import IrqBalance
from vfio_hooks.knobs.lent_power import LentPower
from vfio_hooks.knobs.mediated import Mediated
from vfio_hooks.knobs.module import Module
from vfio_hooks.knobs.not_in_use import Freed
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.knobs.partition import Partition
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.knobs.pci_return import PciReturn
from vfio_hooks.knobs.platform_driver import PlatformDriver
from vfio_hooks.knobs.shared_file import SharedFile
from vfio_hooks.knobs.thread import ThreadAffinity
from vfio_hooks.knobs.transient import Transient
from vfio_hooks.knobs.trigger import Trigger
from vfio_hooks.knobs.unit import Unit
from vfio_hooks.knobs.usb_driver import UsbDriver
from vfio_hooks.knobs.vf_count import VfCount
from vfio_hooks.knobs.vf_setting import VfSetting
from vfio_hooks.knobs.watchdog import Watchdog
from vfio_hooks.record import replace
from vfio_hooks.sharing import (
    Add,
    AtLeast,
    Exclusive,
    Include,
    Once,
    Only,
    Override,
    Run,
    Share,
    Subtract,
)
from vfio_hooks.steps import Step

if TYPE_CHECKING:
    from vfio_hooks.steps import Until

BOUND = "vfio-pci (override vfio-pci)"
AUTO = ("0000:0d:00.0", "0000:0d:00.1")
PAGES = "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"
pytestmark = pytest.mark.usefixtures("no_pauses")
GOVERNOR = File("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor")
THP = File("/sys/kernel/mm/transparent_hugepage/enabled")
IRQ, MANAGED_IRQ = IrqAffinity(24), IrqAffinity(26)
CPUFREQ = "/sys/devices/system/cpu/cpufreq"
KTHREAD = ThreadAffinity(77, 770, "kswapd0 (a)")
MACHINES = f"{ROOT}/machine.slice"
VCPU = f"{MACHINES}/machine-qemu.scope/libvirt/vcpu0"
BALANCER = IrqBalance(irqbalance.SOCKET)
HELPER = Transient("vfio-hooks-vm-radio.service", ("/bin/radio", "on"), ("User=me",), ("A=b",))
VGPU = "i915-GVTg_V5_4"
SCREEN = DisplayLayout("xrandr", getpass.getuser(), ":0", ("DISPLAY=:0",))
LAMP = Command(("switch", "lamp", "on"), ("switch", "lamp", "off"))


def step(knob: Knob, share: Share, until: "Until" = "release") -> Step:
    return Step("test", knob, share, until)


def mode(policy: int, governor: str, preference: str) -> list[Step]:
    """A governor and an energy preference, in the order of the governor plugin."""
    folder = f"{CPUFREQ}/policy{policy}"
    steps = [
        step(EnergyPreference(f"{folder}/energy_performance_preference"), Override(preference)),
        step(Governor(f"{folder}/scaling_governor"), Override(governor)),
    ]
    return steps if governor == "performance" else steps[::-1]


VF_STEPS = (
    step(VfSetting(PF, 1, "vlan"), Exclusive("69 qos 3")),
    step(VfSetting(PF, 1, "rate"), Exclusive("max 100 min 0")),
    step(PciDriver(sriov.address(1)), Exclusive()),
    step(VfSetting(PF, 1, "trust", lent=True), Exclusive("on"), until="stopped"),
)
PLANS = {
    "override": [step(GOVERNOR, Override("performance"))],
    "override that stands already": [step(GOVERNOR, Override("schedutil"))],
    "override in brackets": [step(THP, Override("never"))],
    "bound by us": [step(PciDriver("0000:04:00.0"), Exclusive(BOUND))],
    "bound by libvirt": [step(PciDriver("0000:04:00.1"), Exclusive())],
    "had an override before": [step(PciDriver("0000:06:00.0"), Exclusive("no driver"))],
    "subtract, list": [step(IRQ, Subtract("4-7"))],
    "subtract, emptied": [step(IrqAffinity(25), Subtract("4-7", ("0-3",)))],
    "subtract, mask": [step(IrqDefault(), Subtract("2,4"))],
    "a line of the VM's own": [step(IRQ, Only("4-5"), until="stopped")],
    "subtract, managed by the kernel": [step(MANAGED_IRQ, Subtract("4-7"))],
    "performance, in active mode": mode(1, "performance", "performance"),
    "an energy preference": mode(2, "powersave", "power"),
    "a governor with tunables": [
        step(Governor(f"{CPUFREQ}/policy3/scaling_governor"), Override("performance"))
    ],
    "add": [step(Pages(PAGES, seconds=9), Add(8))],
    "a unit's CPUs": [step(AllowedCpus("system.slice"), Subtract("4-7", ("0-7",)))],
    "CPUs of a unit that had some": [step(AllowedCpus("user.slice"), Subtract("4-7", ("0-7",)))],
    "programs without systemd": [
        step(Controller(ROOT, "cpuset"), Override("on")),
        step(GroupCpus(f"{ROOT}/openrc.sshd"), Subtract("4-7", ("0-7",))),
        step(HostTasks(ROOT), Subtract("4-7", ("0-7",))),
    ],
    "programs in cgroup v1": [
        step(CpuMask(f"{V1}/openrc.sshd/cpuset.cpus"), Subtract("4-7", ("0-7",))),
        step(HostTasks(V1), Subtract("4-7", ("0-7",))),
    ],
    "a partition": [
        step(CpuMask(f"{MACHINES}/cpuset.cpus.exclusive"), Include("4-5")),
        step(CpuMask(f"{VCPU}/cpuset.cpus.exclusive"), Override("4")),
        step(Partition(VCPU), Override("isolated")),
    ],
    "a kernel thread": [step(KTHREAD, Subtract("4-7", ("0-7",)))],
    "irqbalance": [step(BALANCER, Subtract("4-7"))],
    "a unit that runs": [step(Unit("gdm.service"), Override("inactive"))],
    "a unit that does not": [step(Unit("irqs.service"), Override("active"))],
    "a desktop and its card": [
        step(Unit("gdm.service"), Override("inactive")),
        step(Freed("0000:04:00.0"), Once("not in use")),
        step(Console(), Override("unbound")),
        step(PlatformDriver("efi-framebuffer.0"), Override("no driver")),
        step(Module("nvidia_drm"), Override("not loaded")),
        step(Module("nvidia", ("0000:0b:00.0",)), Override("not loaded")),
        step(PciDriver("0000:0b:00.0"), Exclusive(BOUND)),
    ],
    "a card whose driver does not take it back": [
        step(PciReturn("0000:0c:00.0"), Exclusive()),
        step(PciDriver("0000:0c:00.0", 0.01), Exclusive(BOUND)),
        step(GOVERNOR, Override("performance")),
    ],
    "a card that the desktop closes": [
        step(Announced("/sys/bus/pci/devices/0000:04:00.0/drm/card0"), Override("withdrawn")),
        step(PciDriver("0000:04:00.0"), Exclusive(BOUND)),
    ],
    "functions that may sleep": [
        *(
            step(LentPower(f"/sys/bus/pci/devices/{one}/power/control"), Exclusive())
            for one in AUTO
        ),
        step(PciDriver(AUTO[0]), Exclusive()),
        step(PciDriver(AUTO[1]), Exclusive(BOUND)),
    ],
    "a BAR of another size": [
        step(PciDriver("0000:06:00.0"), Exclusive(BOUND)),
        step(BarSize("0000:06:00.0", 0), Override("1024"), "stopped"),
    ],
    "a console that its driver takes along": [step(Console(), Exclusive())],
    "run": [step(LAMP, Run())],
    "a lowest frequency": [
        step(Frequency(f"{CPUFREQ}/policy1/scaling_min_freq"), Override("2000000"))
    ],
    "watchdogs": [
        step(Watchdog("/proc/sys/kernel/nmi_watchdog"), Override("0")),
        step(Watchdog("/proc/sys/kernel/soft_watchdog"), Override("0")),
    ],
    "a desktop's monitors": [
        step(SCREEN, Override("DP-1 1920x1080@60.00 at=0,9 primary; DP-2 1920x1080@60.00 at=0,0"))
    ],
    "a monitor off": [step(SCREEN, Override("DP-1 off; DP-2 1920x1080@60.00 at=0,0 primary"))],
    "once, a trigger": [step(Trigger("/proc/sys/vm/drop_caches"), Once("3"))],
    "once": [step(Module("kvmfr"), Once("loaded"))],
    "the firmware's picture": [step(BootPicture("0000:06:00.0"), Once("none"))],
    "a vGPU": [
        step(Mediated("9f1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d71", "0000:00:02.0"), Exclusive(VGPU)),
    ],
    "a helper program": [step(HELPER, Override(HELPER.value))],
    "a whole evening": [
        step(PciDriver("0000:04:00.0"), Exclusive(BOUND)),
        step(PciDriver("0000:04:00.1"), Exclusive()),
        step(AllowedCpus("system.slice"), Subtract("4-7", ("0-7",))),
        step(IRQ, Subtract("4-7")),
        step(GOVERNOR, Override("performance")),
        step(Pages(PAGES, seconds=9), Add(8)),
        step(LAMP, Run(), until="stopped"),
        step(HELPER, Override(HELPER.value), until="stopped"),
        step(THP, Override("never"), until="stopped"),
    ],
    "VFs made, set up and lent": [
        step(VfCount(PF), AtLeast(2)),
        *(replace(one, awaits=VfCount(PF).key) for one in VF_STEPS),
    ],
    "a USB device's drivers": [
        step(UsbDriver("1-4", "1.0", "046d:c52b"), Exclusive("no driver")),
        step(UsbDriver("1-5", "1.0", "0951:1666", "E0D55E"), Exclusive("usbhid")),
    ],
    "shared memory, made": [
        step(SharedFile("/dev/shm/looking-glass", 4096), Override("0:9 0660, made for VMs")),
    ],
    "shared memory that was there": [
        step(SharedFile("/dev/shm/scream", 4096), Override("64055:993 0660")),
    ],
    "two plugins on one value": [step(IRQ, Subtract("4-5")), step(IRQ, Subtract("5-7"))],
}
OTHERS: list[list[Step]] = [
    [
        step(IRQ, Subtract("2-4")),
        step(GOVERNOR, Override("powersave")),
        step(Pages(PAGES), Add(5)),
        step(THP, Override("always")),
        step(IrqAffinity(25), Subtract("5-6", ("0-4",))),
        step(AllowedCpus("system.slice"), Subtract("2-5", ("0-7",))),
        step(KTHREAD, Subtract("2-5", ("0-7",))),
        step(PciDriver("0000:05:00.0"), Exclusive(BOUND)),
        step(Unit("gdm.service"), Override("inactive")),
        *mode(2, "performance", "performance"),
    ],
    [
        step(SCREEN, Override("DP-1 1920x1080@60.00 at=0,0 primary; DP-2 off")),
        step(IRQ, Subtract("1")),
        step(BALANCER, Subtract("1")),
        step(Controller(ROOT, "cpuset"), Override("on")),
        step(GroupCpus(f"{ROOT}/openrc.sshd"), Subtract("2-5", ("0-7",))),
        step(HostTasks(ROOT), Subtract("2-5", ("0-7",))),
        step(CpuMask(f"{V1}/openrc.sshd/cpuset.cpus"), Subtract("2-5", ("0-7",))),
        step(HostTasks(V1), Subtract("2-5", ("0-7",))),
        step(CpuMask(f"{MACHINES}/cpuset.cpus.exclusive"), Include("2,5")),
        step(GOVERNOR, Override("performance")),
        step(Pages(PAGES), Add(2)),
        step(IrqDefault(), Subtract("1")),
        *mode(1, "powersave", "balance_power"),
        step(SharedFile("/dev/shm/looking-glass", 4096), Override("0:7 0600, made for VMs")),
        step(VfCount(PF), AtLeast(2)),
        Step("test", VfSetting(PF, 0, "mac"), Exclusive("02::1"), awaits=VfCount(PF).key),
    ],
]
VICTIM = "00000000-0000-0000-0000-00000000000a"
STAYS = ("/sys/module/kvmfr/refcnt", "/sys/bus/pci/drivers/kvmfr/uevent")
"""What a loaded module leaves, and the plan says that it stays."""


def _always(plan: list[Step], _: object) -> list[Step]:
    return plan


def other(number: int) -> str:
    return f"00000000-0000-0000-0000-00000000000{number}"


class World:
    """A host with its other VMs running, and a victim that lives through one start and stop."""

    def __init__(self, path: Path, plan: list[Step], others: int) -> None:
        self.plan = plan
        self.path = path
        self.host = MortalKernel()
        self.host.__dict__.update(copy.deepcopy(a_host().__dict__))
        self.untouched = self.state()
        for number in range(others):
            planned = partial(_always, OTHERS[number])
            self.engine().perform("prepare", other(number), f"vm{number}", planned)
        self.before = self.state()

    def twin(self, name: str) -> "World":
        """Another one in the same state, beside it."""
        twin = copy.copy(self)
        twin.path = self.path.with_name(name)
        if self.path.exists():
            shutil.copytree(self.path, twin.path)
        twin.host = copy.deepcopy(self.host)
        return twin

    def folder(self) -> StateFolder:
        return StateFolder(str(self.path))

    def engine(self, fate: Fate | None = None) -> Engine:
        fate = fate or Fate()
        self.host.fate = fate
        return Engine(self.host, StateFolder(str(self.path), MortalDisk(fate)), Lines())

    def live_through(self, fate: Fate) -> None:
        """A start and a stop, with libvirt's own work in between."""
        engine = self.engine(fate)
        engine.perform("prepare", VICTIM, "victim", lambda _: self.plan)
        managed = [
            s.knob.address
            for s in self.plan
            if isinstance(s.knob, PciDriver) and s.share == Exclusive()
        ]
        for address in managed:
            Kernel.bind_as_libvirt(self.host, address)
        engine.undo("stopped", VICTIM)
        for address in managed:
            Kernel.give_back_as_libvirt(self.host, address)
        assert engine.undo("release", VICTIM) == []

    def state(self) -> dict[str, str]:
        return {name: text for name, text in self.host.state().items() if name not in STAYS}

    def journals(self) -> list[str]:
        return [file.name for file in self.path.iterdir() if file.name != "lock"]


def moments(world: World) -> Iterator[int]:
    """Every moment at which a life can end."""
    fate = Fate()
    world.twin("all").live_through(fate)
    yield from range(fate.passed)


@pytest.mark.parametrize("others", [0, 1, 2])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS.keys())
def test_dying_at_any_moment_leaves_nothing(memory: Path, plan: list[Step], others: int) -> None:
    begin = World(memory / "begin", plan, others)
    # The three runs share the moments: the number of other VMs hardly matters.
    every = effort(3, 1)
    for moment in list(moments(begin))[others % every :: every]:
        world = begin.twin(str(moment))
        with pytest.raises(Died):
            world.live_through(Fate(moment))
        # From this the hook sees, before it starts Python, that an unmanaged VM's event matters.
        assert world.folder().is_unsettled() or not Ledger(world.folder()).unfinished()
        problems = world.engine().undo("undo", VICTIM)
        assert not problems
        assert not world.folder().is_unsettled()
        assert world.state() == world.before, f"moment {moment}"
        for number in reversed(range(others)):
            assert world.engine().undo("release", other(number)) == []
        assert world.state() == world.untouched
        assert not world.journals()


@pytest.mark.parametrize(
    ("plan", "every"), [("a whole evening", effort(21, 7)), ("two plugins on one value", 7)]
)
def test_dying_again_while_being_undone(memory: Path, plan: str, every: int) -> None:
    """The undo of a crash is itself cut off at every moment, and then finished by another VM."""
    begin = World(memory / "begin", PLANS[plan], 1)
    count = 0
    for first in list(moments(begin))[::every]:
        second = 0
        while True:
            world = begin.twin(f"{first}-{second}")
            with pytest.raises(Died):
                world.live_through(Fate(first))
            try:
                world.engine(Fate(second)).undo("undo", VICTIM)
            except Died:
                second += 1
                count += 1
            else:
                break
            assert world.engine().undo("release", other(0)) == []
            world.engine().undo("release", VICTIM)
            assert world.state() == world.untouched, f"moments {first}, {second}"
            assert not world.journals()
    assert count > 50


@pytest.mark.parametrize(
    ("plan", "number"),
    [
        *(("a unit's CPUs", number) for number in range(3)),
        *(("CPUs of a unit that had some", number) for number in range(2)),
    ],
)
def test_a_program_that_outlives_the_hook(memory: Path, plan: str, number: int) -> None:
    """systemctl may set the property after the hook's death, and even after the undo has begun."""
    host = Outlived()
    host.__dict__.update(copy.deepcopy(a_host().__dict__))
    before, folder = host.state(), StateFolder(str(memory / "state"))
    host.number = number
    with pytest.raises(Died):
        Engine(host, folder, Lines()).perform("prepare", VICTIM, "victim", lambda _: PLANS[plan])
        Engine(host, folder, Lines()).undo("release", VICTIM)
    assert Engine(host, folder, Lines()).undo("release", VICTIM) == []
    assert host.ran_late is None
    assert host.state() == before


def test_every_kind_of_step_is_in_the_crash_tests() -> None:
    steps = [one for plan in PLANS.values() for one in plan]
    assert {type(one.knob).kind for one in steps} == set(KINDS)
    assert {type(one.share) for one in steps} == {
        Override,
        Exclusive,
        Subtract,
        Only,
        Add,
        AtLeast,
        Include,
        Run,
        Once,
    }
