"""The cpus plugin: which of the host's tasks leave, what it refuses, and several VMs at once."""

import copy
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import hotplug, systemd, tasks
from tests.fakes.death import Died, Fate, MortalKernel
from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.config import Config
from vfio_hooks.domain import Domain
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all
from vfio_hooks.host import kthread
from vfio_hooks.host.cgroup import ROOT, V1, host_units
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.group_cpus import GroupCpus
from vfio_hooks.knobs.tasks import give_offline_cpus
from vfio_hooks.knobs.thread import ThreadAffinity
from vfio_hooks.plugins import cpus
from vfio_hooks.plugins.cpus import Options
from vfio_hooks.plugins.pinning import Pin
from vfio_hooks.steps import Step

ONLINE = "/sys/devices/system/cpu/online"
UNITS = ["init.scope", "system.slice", "user.slice"]
QUEUES = ["/sys/devices/virtual/workqueue/cpumask"]
QUEUES += [f"/sys/devices/virtual/workqueue/{name}/cpumask" for name in ("nvme-wq", "writeback")]


def domain(*pins: str, name: str = "vm", emulator: str | None = None) -> Domain:
    return Domain(
        name=name,
        uuid=f"00000000-0000-0000-0000-{sum(name.encode()):012}",
        vcpus=max(len(pins), 2),
        vcpu_pins=dict(enumerate(map(parse_list, pins))),
        emulator_pin=None if emulator is None else parse_list(emulator),
        iothread_pins={1: parse_list("2")},
    )


def host() -> Kernel:
    kernel = a_host()
    for name in [name for name in kernel.files if name.startswith(V1)]:
        del kernel.files[name]
    AllowedCpus("user.slice").write(kernel, "")
    kernel.files |= dict.fromkeys(QUEUES, "ff\n")
    kernel.add_thread(2, "kthreadd", "0-15")
    kernel.add_thread(11, "kdevtmpfs", "0-15")
    kernel.add_thread(12, "ksoftirqd/4", "4", flags=0x4208040)
    kernel.add_thread(13, "kswapd1", "4-7")
    kernel.add_thread(14, "irq/24-dmar", "0-15")
    kernel.add_thread(15, "nvidia-modeset/", "4")
    return kernel


def planned(kernel: Kernel, vm: Domain, options: Options | None = None) -> list[Step]:
    return list(cpus.plan(Event(vm.name, "prepare"), vm, options or Options(), kernel))


def perform(kernel: Kernel, folder: Path, vm: Domain, log: Lines | None = None) -> None:
    Engine(kernel, StateFolder(str(folder)), log or Lines()).perform(
        "prepare", vm.uuid, vm.name, lambda _: planned(kernel, vm)
    )


class Restless(Kernel):
    """A host whose thread psimon ends when it has been looked at so many times."""

    looks = 0

    def read(self, name: str) -> str:
        if name == "/proc/19/stat":
            self.looks -= 1
            if self.looks < 0:
                self.files = {k: v for k, v in self.files.items() if not k.startswith("/proc/19/")}
        return super().read(name)


def undo(kernel: Kernel, folder: Path, vm: Domain, log: Lines | None = None) -> list[str]:
    return Engine(kernel, StateFolder(str(folder)), log or Lines()).undo("release", vm.uuid)


def test_what_leaves() -> None:
    keys = [step.key for step in planned(host(), domain("4", "5"))]
    assert keys == [
        *(f"/sys/fs/cgroup/{unit}/cpuset.cpus" for unit in UNITS),
        *QUEUES,
        "/proc/11 (kdevtmpfs)",
        "/proc/13 (kswapd1)",
        "/proc/77 (kswapd0 (a))",
    ]


def test_a_pin_to_every_cpu_is_none() -> None:
    """As with <vcpu cpuset=>, for vCPUs that have no <vcpupin> of their own."""
    assert planned(host(), domain("4", "5", "0-7", "0-7")) == planned(host(), domain("4", "5"))


def test_only_prepare_changes_anything() -> None:
    for op in ("start", "started"):
        assert not list(cpus.plan(Event("vm", op), domain("4"), Options(), host()))


def test_kernel_threads_can_be_left() -> None:
    steps = planned(host(), domain("4"), Options(kernel_threads=False))
    assert [step.knob for step in steps] == [AllowedCpus(unit) for unit in UNITS]


def test_slices_with_guests_in_them_are_left_alone() -> None:
    kernel = host()
    for unit in ("production", "backup"):
        kernel.files[f"/sys/fs/cgroup/{unit}.slice/cgroup.procs"] = "\n"
    scope = "machine-qemu\\x2d1\\x2dvm.scope"
    kernel.files[f"/sys/fs/cgroup/production.slice/{scope}/cgroup.procs"] = "9\n"
    kernel.files["/sys/fs/cgroup/dev-hugepages.mount/cgroup.procs"] = "\n"
    assert host_units(kernel) == ["backup.slice", *UNITS]


def contained(kernel: Kernel, name: str, populated: int = 1, pid: str = "600") -> str:
    """Put a group into a kernel that does not belong to systemd."""
    path = f"{ROOT}/{name}"
    kernel.files[f"{path}/cgroup.procs"] = f"{pid}\n"
    kernel.files[f"{path}/cgroup.events"] = f"populated {populated}\nfrozen 0\n"
    kernel.add_thread(int(pid), "contained", "0-15", flags=0x400100)
    return path


def test_containers_beside_the_slices(memory: Path) -> None:
    kernel, vms = host(), [domain("4", name="one"), domain("5", name="two")]
    groups = [contained(kernel, name) for name in ("docker", "lxc.payload.web")]
    contained(kernel, "empty", populated=0)
    contained(kernel, "dev-hugepages.mount")
    contained(kernel, "games")
    contained(kernel, "games/qemu-2-b.libvirt-qemu")
    before = kernel.state()
    for vm in vms:
        perform(kernel, memory, vm)
    for group in groups:
        assert kernel.read(f"{group}/cpuset.cpus") == "0-3,6-15"
    for left in ("empty", "dev-hugepages.mount", "games"):
        assert not kernel.read(f"{ROOT}/{left}/cpuset.cpus")
    assert undo(kernel, memory, vms[0]) == []
    assert kernel.read(f"{groups[0]}/cpuset.cpus") == "0-4,6-15"
    for name in [name for name in kernel.files if name.startswith(groups[1])]:
        del kernel.files[name]
        before.pop(name, None)
    assert undo(kernel, memory, vms[1]) == []
    assert kernel.state() == before


@pytest.mark.parametrize(
    ("also", "taken"),
    [
        ((), "4-5"),
        (("emulatorpin",), "3-5"),
        (("iothreadpin",), "2,4-5"),
        (("emulatorpin", "iothreadpin"), "2-5"),
    ],
)
def test_which_cpus(also: tuple[Pin, ...], taken: str, memory: Path) -> None:
    kernel = host()
    vm = domain("4", "5", emulator="3")
    steps = planned(kernel, vm, Options(also=also))
    Engine(kernel, StateFolder(str(memory)), Lines()).perform(
        "prepare", vm.uuid, vm.name, lambda _: steps
    )
    left = format_list(parse_list("0-15") - parse_list(taken))
    assert kernel.allowed == dict.fromkeys(UNITS, left)


def test_a_domain_without_pins_is_told_who_chooses_them() -> None:
    with pytest.raises(HookError) as caught:
        planned(host(), domain())
    assert str(caught.value) == (
        "domain vm pins no vCPU, so it has no CPUs to itself; sudo vfio-hooks init vm --pins "
        "chooses CPUs for them"
    )


def test_a_domain_that_takes_every_cpu() -> None:
    kernel = host()
    kernel.files[ONLINE] = "0-5\n"
    with pytest.raises(HookError, match=r"pins CPUs 0-5, which are all CPUs of this host"):
        planned(kernel, domain("0-3", "4-7"))


def test_two_domains_that_together_take_every_cpu(memory: Path) -> None:
    kernel, first, second = host(), domain("0-3", name="first"), domain("4-7", name="second")
    perform(kernel, memory, first)
    before = kernel.state()
    with pytest.raises(HookError, match="no CPU would be left"):
        perform(kernel, memory, second)
    assert kernel.state() == before


def test_what_was_set_before_comes_back(memory: Path) -> None:
    kernel = host()
    systemd.set_property(kernel, "user.slice", "AllowedCPUs=4-5")
    systemd.set_property(kernel, "system.slice", "AllowedCPUs=0-7")
    before, vm = kernel.state(), domain("4", "5")
    perform(kernel, memory, vm)
    assert kernel.allowed == {
        "init.scope": "0-3,6-15",
        "system.slice": "0-3,6-7",
        "user.slice": "0-3,6-15",
    }
    assert undo(kernel, memory, vm) == []
    assert kernel.allowed == {"user.slice": "4-5", "system.slice": "0-7"}
    assert kernel.state() == before


@pytest.mark.parametrize("own", ["2-6", "0 3-6"])
def test_what_was_set_for_longer_than_this_boot_leaves_no_file(own: str, memory: Path) -> None:
    kernel, vms = host(), [domain("4", name="one"), domain("5", name="two")]
    systemd.set_property(kernel, "user.slice", f"AllowedCPUs={own.replace(' ', ',')}")
    lasting = kernel.files.pop(systemd.DROP_IN.format("user.slice")).replace(",", " ")
    kernel.files["/etc/systemd/system.control/user.slice.d/50-AllowedCPUs.conf"] = lasting
    before = kernel.state()
    for vm in vms:
        perform(kernel, memory, vm)
    assert undo(kernel, memory, vms[0]) == []
    assert kernel.allowed["user.slice"].endswith("4,6")
    assert undo(kernel, memory, vms[1]) == []
    assert kernel.state() == before
    assert kernel.ran.count(["systemctl", "daemon-reload"]) == 1


def busy_host(empties: bool) -> Kernel:
    """A host with programs in a slice whose name is before init.scope's, and in a container."""
    kernel = host()
    kernel.empties = empties
    systemd.make(kernel, "games.slice", "")
    systemd.make(kernel, "games.slice/games-fps.slice/game.service", "701")
    contained(kernel, "docker")
    return kernel


@pytest.mark.parametrize("empties", [False, True], ids=["Linux 6", "Linux 7"])
def test_a_hook_that_is_killed_leaves_no_task_confined(empties: bool, memory: Path) -> None:
    begin, vm = busy_host(empties), domain("4", "5")
    before, moment, ended = begin.state(), 0, False
    while not ended:
        kernel = MortalKernel()
        kernel.__dict__.update(copy.deepcopy(begin.__dict__))
        kernel.fate, folder = Fate(moment), memory / str(moment)
        try:
            perform(kernel, folder, vm)
            undo(kernel, folder, vm)
            ended = True
        except Died:
            kernel.fate = Fate()
            assert undo(kernel, folder, vm) == []
        assert kernel.state() == before, f"moment {moment}"
        moment += 1
    assert moment > 4 * len(UNITS)


@pytest.mark.parametrize("unmoved", [0, 1, 7])
def test_a_cpu_that_comes_after_a_vm_is_everybodys(unmoved: int, memory: Path) -> None:
    """The fake host has room for 16 CPUs, and has 8."""
    kernel, vm = busy_host(empties=False), domain("4", "5")
    kernel.unmoved = unmoved
    perform(kernel, memory, vm)
    assert "0-3,6-7" in kernel.files["/proc/701/status"]
    assert undo(kernel, memory, vm) == []
    for pid in ("1", "401", "402", "701", "600"):
        assert kernel.files[f"/proc/{pid}/status"].endswith("\t0-15\n")


def test_cpus_that_come_later_are_not_for_everybody() -> None:
    """Somebody has chosen the CPUs of a program. The kernel's threads see to theirs."""
    kernel = busy_host(empties=False)
    for pid, own in (("701", "0-7"), ("402", "1-2"), ("11", "0-7")):
        tasks.allow(kernel, pid, own)
    give_offline_cpus(kernel)
    for pid, own in (("701", "0-15"), ("402", "1-2"), ("11", "0-7")):
        assert kernel.files[f"/proc/{pid}/status"].endswith(f"\t{own}\n")


@pytest.mark.parametrize("trims", [False, True], ids=["Linux 6.12", "Linux 6.1"])
@pytest.mark.parametrize(
    ("begin", "during", "end"),
    [
        ("0-7", "0-6", "0-7"),
        ("0-7", "0-6", "0-6"),
        ("0-7", "0-3,6-7", "0-4,6"),
        ("0-6", "0-7", "0-7"),
        ("0-5,7", "0-3,6-7", "0-6"),
    ],
)
def test_cpus_that_come_and_go(
    begin: str, during: str, end: str, trims: bool, memory: Path
) -> None:
    kernel, vms = busy_host(empties=False), [domain("4", name="one"), domain("5", name="two")]
    kernel.trims = trims
    kernel.files["/proc/sys/kernel/osrelease"] = "6.1.0-57-amd64\n" if trims else "6.12.118\n"
    kernel.add_thread(16, "kcompactd1", "4-7")
    kernel.add_thread(17, "own", "2-5")
    hotplug.set_online(kernel, begin)
    before = kernel.state()
    for vm in vms:
        perform(kernel, memory, vm)
    for vm, online in zip(vms, (during, end), strict=True):
        hotplug.set_online(kernel, online)
        # Linux 6.1 takes from a thread the CPUs that are offline when it is changed.
        is_short = trims and bool(parse_list(begin) - parse_list(online))
        assert bool(undo(kernel, memory, vm)) == is_short
    assert bool(list(memory.glob("*.journal"))) == is_short
    hotplug.set_online(kernel, begin)
    # Any event will do.
    assert undo(kernel, memory, vms[1]) == []
    assert not list(memory.glob("*.journal"))
    after = kernel.state()
    if trims:
        threads = [f"/proc/{pid}/status" for pid in (11, 13, 16, 17, 77)]
        for name in threads:
            cpus = [parse_list(state.pop(name).split()[-1]) for state in (before, after)]
            assert cpus[0] & parse_list(begin) <= cpus[1]
    assert after == before


@pytest.mark.parametrize("same_vm", [False, True])
def test_cpus_that_a_thread_waits_for(same_vm: bool, memory: Path) -> None:
    """With Linux 6.1, and another start before they are back."""
    kernel, vms = busy_host(empties=False), [domain("4", name="one"), domain("5", name="two")]
    kernel.trims = True
    kernel.files["/proc/sys/kernel/osrelease"] = "6.1.0-57-amd64\n"
    before = kernel.state()
    perform(kernel, memory, vms[0])
    hotplug.set_online(kernel, "0-3")
    assert {*undo(kernel, memory, vms[0])} == {
        "CPUs are offline, and this kernel takes them from its threads: 4-7"
    }
    perform(kernel, memory, vms[not same_vm])
    hotplug.set_online(kernel, "0-7")
    assert undo(kernel, memory, vms[not same_vm]) == []
    assert not list(memory.glob("*.journal"))
    threads = [kernel.files.pop(f"/proc/{pid}/status") for pid in (11, 13, 77)]
    assert [text.split()[-1] for text in threads] == ["0-7", "4-7", "0-7"]
    assert kernel.state().items() <= before.items()


def test_a_thread_that_the_kernel_resets_meanwhile(memory: Path) -> None:
    kernel, vms = host(), [domain("4", name="one"), domain("5", name="two"), domain("6")]
    kernel.add_thread(16, "kcompactd1", "4-7")
    before = kernel.state()
    for vm in vms[:2]:
        perform(kernel, memory, vm)
    hotplug.set_online(kernel, "0-6")
    hotplug.set_online(kernel, "0-7")
    assert kernel.files["/proc/16/status"].endswith("\t4-7\n")
    perform(kernel, memory, vms[2])
    assert kernel.files["/proc/16/status"].endswith("\t7\n")
    # As Linux 7 does when the CPUs of the second VM become an isolated partition.
    tasks.allow(kernel, "16", "4,6-7")
    assert undo(kernel, memory, vms[0]) == []
    assert kernel.files["/proc/16/status"].endswith("\t4,7\n")
    for vm in vms[1:]:
        assert undo(kernel, memory, vm) == []
    assert kernel.state() == before


def test_threads_of_a_node_after_a_partition(memory: Path) -> None:
    """Linux 6.12 gives every thread all CPUs that are in no partition, of other nodes as well."""
    kernel, vm = host(), domain("2", "3")
    before = kernel.state()
    perform(kernel, memory, vm)
    kernel.files[f"{ROOT}/cpuset.cpus.effective"] = "0-1,4-7\n"
    tasks.allow(kernel, "13", "0-1,4-15")
    assert undo(kernel, memory, vm) == []
    assert kernel.files["/proc/13/status"] == before["/proc/13/status"]


def test_a_thread_that_lost_a_cpu_that_was_offline(memory: Path) -> None:
    """Like RCU's threads, which get the CPU back from the kernel when it comes."""
    kernel, vm = host(), domain("4", "5")
    hotplug.set_online(kernel, "0-6")
    tasks.allow(kernel, "11", "0-6")
    perform(kernel, memory, vm)
    hotplug.set_online(kernel, "0-7")
    tasks.allow(kernel, "11", "0-7")
    assert undo(kernel, memory, vm) == []
    assert parse_list(kernel.files["/proc/11/status"].split()[-1]) >= parse_list("0-7")


def test_a_file_of_systemds_that_says_nothing_is_no_limit(memory: Path) -> None:
    kernel, vm = host(), domain("4", "5")
    kernel.files[systemd.DROP_IN.format("user.slice")] = "[Slice]\nAllowedCPUs=\n"
    assert AllowedCpus("user.slice").read(kernel) == ""
    perform(kernel, memory, vm)
    assert undo(kernel, memory, vm) == []
    assert systemd.DROP_IN.format("user.slice") not in kernel.files
    assert not kernel.allowed


def test_a_thread_that_ends_stops_nothing(memory: Path) -> None:
    kernel, vm = host(), domain("4", "5")
    steps = planned(kernel, vm)
    del kernel.files["/proc/13/stat"]
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    engine.perform("prepare", vm.uuid, vm.name, lambda _: steps)
    # Another thread with the number of one that was moved is not touched.
    kernel.files["/proc/11/stat"] = kernel.files["/proc/11/stat"].replace(" 110 ", " 999 ")
    assert engine.undo("release", vm.uuid) == []
    assert "0-3,6-15" in kernel.files["/proc/11/status"]


def test_steps_that_need_not_succeed_stay_so() -> None:
    kernel, vm = host(), domain("4")
    contained(kernel, "docker")
    steps = plan_all(Event("vm", "prepare"), vm, Config.use(["cpus"]), kernel, Lines())
    assert {type(step.knob) for step in steps if not step.required} == {ThreadAffinity, GroupCpus}


def test_a_kernel_thread_that_ends_at_any_moment_is_no_reason_to_warn(memory: Path) -> None:
    vm, ended = domain("4"), []
    for looks in range(10):
        kernel, log = Restless(), Lines()
        kernel.files, kernel.looks = {**host().files}, looks
        kernel.add_thread(19, "psimon", "0-15")
        perform(kernel, memory, vm, log)
        assert undo(kernel, memory, vm, log) == []
        assert log.warnings == []
        ended += [line for line in log.infos if "psimon" in line and "has ended" in line]
    # At least once between its reading and its writing.
    assert any("going on without it" in line for line in ended)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.frozensets(st.integers(0, 6), min_size=1, max_size=4), min_size=2, max_size=3))
def test_any_order_of_stops(pins: list[CpuSet]) -> None:
    kernel = host()
    vms = [domain(format_list(pin), name=f"vm{number}") for number, pin in enumerate(pins)]
    before = kernel.state()
    for order in itertools.permutations(range(len(vms))):
        with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
            running: list[CpuSet] = []
            for vm in vms:
                perform(kernel, Path(folder), vm)
                running.append(vm.pinned)
                _check(kernel, running)
            for number in order:
                assert undo(kernel, Path(folder), vms[number]) == []
                running.remove(vms[number].pinned)
                _check(kernel, running)
    assert kernel.state() == before


def _check(kernel: Kernel, running: Sequence[CpuSet]) -> None:
    left = frozenset(range(16)) - frozenset[int]().union(*running)
    for unit in UNITS:
        assert AllowedCpus(unit).read(kernel) == (format_list(left) if running else "")
    thread = next(thread for thread in kthread.movable(kernel) if thread.name == "kswapd1")
    knob = ThreadAffinity(thread.pid, thread.start, thread.name)
    own = parse_list("4-7")
    assert parse_list(knob.read(kernel)) == (own & left or left)
