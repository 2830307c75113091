"""The irqs plugin: where interrupts go, what irqbalance is told, and the VM's own vectors."""

import errno
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import irqbalance, systemd
from tests.fakes.kernel import Kernel, Lines, a_host
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.event import Event
from vfio_hooks.host import irq
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list, parse_mask
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.irq import IrqAffinity, IrqDefault
from vfio_hooks.knobs.irqbalance import IrqBalance
from vfio_hooks.plugins import irqs
from vfio_hooks.plugins.irqs import Options
from vfio_hooks.services import vectors
from vfio_hooks.sharing import Run, Subtract, target
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
ONLINE = "/sys/devices/system/cpu/online"
GPU, GPU_AUDIO = "0000:04:00.0", "0000:04:00.1"
BALANCER = IrqBalance(irqbalance.SOCKET)


def domain(*pins: str, name: str = "vm") -> Domain:
    return Domain(
        name=name,
        uuid=f"00000000-0000-0000-0000-{sum(name.encode()):012}",
        vcpu_pins=dict(enumerate(map(parse_list, pins))),
        pci=(PciFunction(GPU, managed=True, origin="hostdev"),),
    )


def host(cpus: int = 8, nodes: int = 2) -> Kernel:
    """A host whose NUMA nodes are side by side, and further apart the more are in between."""
    kernel = a_host()
    kernel.files[ONLINE] = f"0-{cpus - 1}\n"
    each = cpus // nodes
    for node in range(nodes):
        folder = f"/sys/devices/system/node/node{node}"
        mask = (1 << each) - 1 << node * each
        kernel.files[f"{folder}/cpumap"] = f"{mask:x}\n"
        distances = (str(10 + 10 * abs(other - node)) for other in range(nodes))
        kernel.files[f"{folder}/distance"] = " ".join(distances) + "\n"
    return kernel


def planned(kernel: Kernel, vm: Domain, op: str = "prepare", **options: object) -> list[Step]:
    return list(irqs.plan(Event(vm.name, op), vm, Options(**options), kernel))  # type: ignore[arg-type]


def engine(kernel: Kernel, folder: Path) -> Engine:
    return Engine(kernel, StateFolder(str(folder)), Lines())


def perform(kernel: Kernel, folder: Path, vm: Domain) -> Lines:
    log = Lines()
    Engine(kernel, StateFolder(str(folder)), log).perform(
        "prepare", vm.uuid, vm.name, lambda _: planned(kernel, vm)
    )
    return log


def goal(kernel: Kernel, vm: Domain, number: int) -> str:
    """Where an interrupt goes."""
    knob = IrqAffinity(number)
    step = next(step for step in planned(kernel, vm) if step.knob == knob)
    return target(knob.read(kernel), [step.share])


def test_what_is_moved() -> None:
    steps = planned(host(), domain("4", "5"))
    assert [step.knob for step in steps] == [
        BALANCER,
        IrqDefault(),
        *map(IrqAffinity, (24, 25, 26)),
    ]
    assert [step.required for step in steps] == [False, True, False, False, False]


def test_irqbalance_is_left_alone_on_request_and_where_it_is_not() -> None:
    kernel = host()
    assert planned(kernel, domain("4"), irqbalance=False)[0].knob != BALANCER
    del kernel.files["/proc/451/comm"]
    assert irq.balancer(kernel) is None
    assert planned(kernel, domain("4"))[0].knob != BALANCER


@pytest.mark.parametrize(
    ("cpus", "now", "pins", "goes_to"),
    [
        (8, "0-7", "4-7", "0-3"),
        (8, "6", "4-5", "6"),
        (8, "6", "6-7", "4-5"),  # the rest of its node
        (8, "6", "4-7", "0-3"),  # the other node
        (64, "0-63", "2-63", "0-1"),
        (64, "40", "32-47", "16-31"),  # node 2 of 4: the first of the two that are as near
        (64, "63", "32-63", "16-31"),
        (128, "0-127", "33-126", "0-32,127"),
        (256, "200-255", "0-254", "255"),
    ],
)
def test_where_an_interrupt_goes(cpus: int, now: str, pins: str, goes_to: str) -> None:
    kernel = host(cpus, nodes=2 if cpus == 8 else 4)
    kernel.files["/proc/irq/24/smp_affinity_list"] = now + "\n"
    assert goal(kernel, domain(pins), 24) == goes_to


@pytest.mark.parametrize(
    ("now", "goes_to"), [("4-5", "6-7"), ("0,5", "0,5"), ("0-15", "0-3,5-15"), ("5", "0-3")]
)
def test_offline_cpus_are_none_to_go_to(now: str, goes_to: str) -> None:
    kernel = host()
    kernel.files[ONLINE] = "0-4,6-7\n"
    kernel.files["/proc/irq/24/smp_affinity_list"] = now + "\n"
    assert goal(kernel, domain("4"), 24) == goes_to


cpu_sets = st.frozensets(st.integers(0, 69), min_size=1, max_size=30)


@given(online=cpu_sets, now=cpu_sets, taken=cpu_sets)
def test_an_interrupt_always_has_a_host_cpu(online: CpuSet, now: CpuSet, taken: CpuSet) -> None:
    kernel = host(70, nodes=7)
    kernel.files[ONLINE] = format_list(online) + "\n"
    kernel.files["/sys/devices/system/cpu/possible"] = "0-69\n"
    kernel.files["/proc/irq/24/smp_affinity_list"] = format_list(now) + "\n"
    if not online - taken:
        with pytest.raises(HookError, match="all CPUs of this host"):
            planned(kernel, domain(format_list(taken)))
        return
    goes_to = parse_list(goal(kernel, domain(format_list(taken)), 24))
    assert goes_to & online and not goes_to & taken
    if now & online - taken:
        assert goes_to == now - taken


def test_guests_vectors_are_no_interrupts_of_the_host() -> None:
    kernel = host()
    kernel.links[f"/sys/bus/pci/devices/{GPU}/driver"] = "vfio-pci"
    kernel.files[f"/sys/bus/pci/devices/{GPU}/msi_irqs/25"] = "msix\n"
    kernel.files["/sys/bus/pci/devices/0000:05:00.0/msi_irqs/24"] = "msi\n"
    assert irq.of_devices(kernel, irq.lent(kernel)) == {25}
    assert IrqAffinity(25) not in [step.knob for step in planned(kernel, domain("4"))]


def test_everything_comes_back(memory: Path) -> None:
    kernel, vm = host(), domain("4-7")
    before = kernel.state()
    log = perform(kernel, memory, vm)
    assert kernel.files["/proc/irq/default_smp_affinity"] == "f\n"
    assert kernel.files["/proc/irq/24/smp_affinity_list"] == "0-3\n"
    assert kernel.files["/proc/irq/25/smp_affinity_list"] == "0-3\n"
    assert kernel.files["/proc/irq/26/smp_affinity_list"] == "0-7\n"
    assert kernel.asked == "0,4-7"
    assert not log.warnings
    assert engine(kernel, memory).undo("release", vm.uuid) == []
    assert kernel.state() == before


def test_an_interrupt_that_cannot_move_stops_nothing(memory: Path) -> None:
    kernel, vm = host(), domain("4-7")
    kernel.refuses.add("/proc/irq/24/smp_affinity_list")
    log = perform(kernel, memory, vm)
    assert any("IRQ 24" in line for line in log.warnings)
    assert kernel.files["/proc/irq/25/smp_affinity_list"] == "0-3\n"


@pytest.mark.parametrize("rounds", [(), (1,), (2,), (1, 2, 3)])
def test_irqbalance_between_its_rounds(memory: Path, rounds: tuple[int, ...]) -> None:
    """It shows what it was told only after its next round, which may come at any time."""
    kernel = host()
    first, second = domain("4-5", name="first"), domain("5-6", name="second")

    def come_round(moment: int) -> None:
        if moment in rounds:
            irqbalance.come_round(kernel)

    for moment, vm in enumerate((first, second)):
        perform(kernel, memory, vm)
        come_round(moment + 1)
    assert kernel.asked == "0,4-6"
    assert engine(kernel, memory).undo("release", first.uuid) == []
    assert kernel.asked == "0,5-6"
    come_round(3)
    assert engine(kernel, memory).undo("release", second.uuid) == []
    assert kernel.asked == "0"
    irqbalance.come_round(kernel)
    assert BALANCER.read(kernel) == "1-15"


def test_irqbalance_when_a_cpu_comes_meanwhile(memory: Path) -> None:
    kernel, vm = host(), domain("4-5")
    kernel.files[ONLINE] = "0-6\n"
    perform(kernel, memory, vm)
    assert kernel.asked == "0,4-5"
    kernel.files[ONLINE] = "0-7\n"
    assert engine(kernel, memory).undo("release", vm.uuid) == []
    assert kernel.asked == "0"


def test_irqbalance_that_somebody_else_told_something(memory: Path) -> None:
    kernel, vm = host(), domain("4-5")
    perform(kernel, memory, vm)
    irqbalance.come_round(kernel)
    kernel.ask(irqbalance.SOCKET, "settings cpus 1,2")
    irqbalance.come_round(kernel)
    assert engine(kernel, memory).undo("release", vm.uuid) == []
    assert kernel.asked == "1,2"


def test_irqbalance_that_was_restarted(memory: Path) -> None:
    kernel, vm = host(), domain("4-5")
    perform(kernel, memory, vm)
    del kernel.files[irqbalance.SOCKET]
    assert engine(kernel, memory).undo("release", vm.uuid) == []


def restart(kernel: Kernel) -> str:
    """Replace the running irqbalance with another one; returns its socket."""
    socket = "/run/irqbalance/irqbalance99.sock"
    for name in (irqbalance.SOCKET, "/proc/451/comm"):
        del kernel.files[name]
    kernel.files |= {socket: "", "/proc/99/comm": "irqbalance\n"}
    kernel.banned = kernel.asked = "1"
    return socket


@pytest.mark.parametrize("rounds", [(), (0,), (1,), (2,), (0, 1, 2)])
def test_another_irqbalance_is_told_and_forgets(memory: Path, rounds: tuple[int, ...]) -> None:
    kernel = host()
    first, second = domain("4-5", name="first"), domain("5-6", name="second")
    for vm in (first, second):
        perform(kernel, memory, vm)
    socket = restart(kernel)
    for moment, vm in enumerate((first, second, first)):
        vectors.keep_off(engine(kernel, memory), vm.uuid, vm.name, socket)
        if moment in rounds:
            irqbalance.come_round(kernel)
    assert kernel.asked == "1,4-6"
    assert engine(kernel, memory).undo("stopped", first.uuid) == []
    assert kernel.asked == "1,5-6"
    assert engine(kernel, memory).undo("stopped", second.uuid) == []
    assert kernel.asked == "1"
    # Its service came too late: nobody would undo it.
    vectors.keep_off(engine(kernel, memory), first.uuid, first.name, socket)
    assert kernel.asked == "1" and not list(memory.glob("*.journal"))


def test_another_irqbalance_is_left_alone_where_the_first_one_was(memory: Path) -> None:
    kernel, vm = host(), domain("4-5")
    steps = planned(kernel, vm, irqbalance=False)
    engine(kernel, memory).perform("prepare", vm.uuid, vm.name, lambda _: steps)
    vectors.keep_off(engine(kernel, memory), vm.uuid, vm.name, restart(kernel))
    assert kernel.asked == "1"


def test_a_service_that_is_asked_to_end_does(memory: Path) -> None:
    kernel, vm = host(), domain("4-5")
    perform(kernel, memory, vm)
    socket, another = restart(kernel), engine(kernel, memory)

    def ask(name: str, text: str, seconds: float = 10) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return irqbalance.answer(kernel, text)

    kernel.ask = ask  # type: ignore[method-assign]
    with pytest.raises(Interrupted):
        vectors.keep_off(another, vm.uuid, vm.name, socket)
    assert kernel.asked == "1"


def test_a_service_follows_the_vms_vectors() -> None:
    kernel, vm = host(), domain("4", "5")
    (step,) = planned(kernel, vm, "started")
    assert step.share == Run() and step.until == "stopped" and not step.required
    assert isinstance(step.knob, Command)
    assert step.knob.do[-3:] == (vm.uuid, "/run/libvirt/qemu/vm.pid", "4-5")
    assert step.knob.undo[-1] == f"vfio-hooks-vectors-{vm.uuid}.servic[e]"
    assert not planned(kernel, vm, "started", vectors=False)
    assert not planned(kernel, vm, "start")


def test_vectors_are_followed_until_the_vm_ends() -> None:
    kernel = host()
    vectors_of = f"/sys/bus/pci/devices/{GPU}/msi_irqs"
    rounds: list[dict[int, str]] = []

    def ended(seconds: float) -> bool:
        if len(rounds) == 3:
            return True
        rounds.append({n: IrqAffinity(n).read(kernel) for n in irq.of_devices(kernel, [GPU])})
        if len(rounds) == 1:
            kernel.files[f"{vectors_of}/24"] = "msix\n"
            kernel.files[f"{vectors_of}/26"] = "msix\n"  # cannot be moved
        elif len(rounds) == 2:
            kernel.files["/proc/irq/24/smp_affinity_list"] = "0\n"
            restart(kernel)
        else:
            kernel.files[f"{vectors_of}/99"] = "msix\n"  # has gone from /proc already
        return False

    told: list[str] = []
    kept: list[str] = []

    def keep(line: int) -> None:
        kept.append(f"{line} was {IrqAffinity(line).read(kernel)}")

    kernel.files[f"/sys/bus/pci/devices/{GPU_AUDIO}/irq"] = "25\n"
    kernel.files["/sys/kernel/irq/25/actions"] = f"vfio-intx({GPU_AUDIO})\n"
    both = [GPU, GPU_AUDIO]
    vectors.follow(kernel, lambda: both, lambda: "4-5", ended, told.append, keep, lambda: None)
    assert kept == ["25 was 6"]
    assert told == [irqbalance.SOCKET, "/run/irqbalance/irqbalance99.sock"]
    assert rounds == [{}, {24: "4-5", 26: "0-7"}, {24: "4-5", 26: "0-7"}]


def test_functions_and_vcpus_that_come_and_go() -> None:
    kernel = host()
    for number, address in ((24, GPU), (25, GPU_AUDIO)):
        kernel.files[f"/sys/bus/pci/devices/{address}/msi_irqs/{number}"] = "msix\n"
    looks = [([GPU], "4"), ([GPU, GPU_AUDIO], "4-5"), ([GPU_AUDIO], "4-5")]
    rounds: list[list[str]] = []
    seen: list[list[str]] = []

    def now() -> list[str]:
        return [IrqAffinity(number).read(kernel) for number in (24, 25)]

    def ended(seconds: float) -> bool:
        rounds.append(now())
        # A function that the VM has no more is the host's, with its vectors.
        kernel.files["/proc/irq/24/smp_affinity_list"] = "0-3\n"
        return len(rounds) == len(looks)

    def plugged() -> list[str]:
        return looks[len(rounds)][0]

    def where() -> str:
        return looks[len(rounds)][1]

    def look() -> None:
        seen.append(now())

    vectors.follow(kernel, plugged, where, ended, lambda _: None, lambda _: None, look)
    assert rounds == [["4", "6"], ["4-5", "4-5"], ["0-3", "4-5"]]
    # They are where they belong before anything waits for the engine's lock.
    assert seen == rounds


def test_the_service_ends_with_the_process(tmp_path: Path) -> None:
    program = subprocess.Popen(["sleep", "60"])
    pidfile = tmp_path / "vm.pid"
    pidfile.write_text(f"{program.pid}\n")
    argv = [domain("0").uuid, str(pidfile), "0"]
    command = [sys.executable, "-BPS", "-m", "vfio_hooks.services.vectors", *argv]
    service = subprocess.Popen(command, env={"PYTHONPATH": str(Path(__file__).parents[1])})
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            service.wait(0.5)
        program.kill()
        assert service.wait(60) == 0
        program.wait(60)
        # Nor does it wait for a process that was gone before it came.
        assert vectors.main(argv) == 0
        pidfile.unlink()
        assert vectors.main(argv) == 0
    finally:
        service.kill()
        program.kill()


def test_a_device_in_line_mode_has_its_line() -> None:
    kernel = host()
    kernel.files[f"/sys/bus/pci/devices/{GPU}/irq"] = "16\n"
    kernel.files["/sys/kernel/irq/16/actions"] = f"vfio-intx({GPU})\n"
    assert irq.of_devices(kernel, [GPU, "0000:05:00.0"]) == {16}


@pytest.mark.parametrize("actions", [f"vfio-intx({GPU}),snd_hda_intel:card0", "(null)", ""])
def test_a_line_that_the_host_has_a_part_in_is_the_hosts(actions: str) -> None:
    kernel = host()
    kernel.files[f"/sys/bus/pci/devices/{GPU}/irq"] = "16\n"
    kernel.files["/sys/kernel/irq/16/actions"] = actions + "\n"
    assert irq.of_devices(kernel, [GPU]) == set()


def test_systemd_is_not_needed() -> None:
    kernel = host()
    for name in [name for name in kernel.files if name.startswith(systemd.ROOT)]:
        del kernel.files[name]
    assert isinstance(planned(kernel, domain("4"))[-1].share, Subtract)


def test_interrupts_that_somebody_took_back_are_one_line(memory: Path) -> None:
    kernel, vm = host(), domain("4-7")
    for number in range(30, 60):
        kernel.files[f"/proc/irq/{number}/smp_affinity_list"] = "0-7\n"
    perform(kernel, memory, vm)
    for number in range(30, 60):
        kernel.files[f"/proc/irq/{number}/smp_affinity_list"] = f"{number % 4}\n"
    log = Lines()
    assert Engine(kernel, StateFolder(str(memory)), log).undo("release", vm.uuid) == []
    assert not log.warnings
    (told,) = [line for line in log.infos if "irqbalance has set" in line]
    assert told.endswith("since, and keeps managing it (and 29 more like it)")
    # Without irqbalance it was somebody else.
    kernel = host()
    del kernel.files[irqbalance.SOCKET]
    perform(kernel, memory, vm)
    kernel.files["/proc/irq/24/smp_affinity_list"] = "1\n"
    Engine(kernel, StateFolder(str(memory)), log).undo("release", vm.uuid)
    assert [line.partition(": ")[2] for line in log.warnings] == [
        "/proc/irq/24/smp_affinity_list: somebody else has set it to 1 since, so it is left alone"
    ]


NEAR = frozenset(range(4, 8))


def come_up(kernel: Kernel, number: int, near: bool = False) -> None:
    """As when a driver asks for an interrupt; that of a device which is `near` the second node."""
    mask = parse_mask(kernel.read("/proc/irq/default_smp_affinity"))
    mask &= parse_list(kernel.read(ONLINE))
    if near:
        kernel.files[f"/proc/irq/{number}/node"] = "1\n"
        mask = mask & NEAR or mask
    kernel.files[f"/proc/irq/{number}/smp_affinity_list"] = format_list(mask) + "\n"


def masks(kernel: Kernel) -> dict[int, str]:
    return {n: kernel.read(f"/proc/irq/{n}/smp_affinity_list") for n in irq.numbers(kernel)}


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_an_interrupt_that_comes_up_while_vms_run(
    order: tuple[int, ...], near: bool, memory: Path
) -> None:
    kernel = host()
    kernel.files["/proc/irq/27/smp_affinity_list"] = "0-3,5-7\n"  # by its owner's choice
    vms = [domain("4", name="one"), domain("5", name="two"), domain("6", name="three")]
    before, new = masks(kernel), range(30, 34)
    for number, vm in enumerate(vms):
        come_up(kernel, new[number], near)
        perform(kernel, memory, vm)
    come_up(kernel, new[3], near)
    running = set(order)
    for one in order:
        assert engine(kernel, memory).undo("stopped", vms[one].uuid) == []
        running.discard(one)
        every = NEAR if near else frozenset(range(8))
        left = format_list(every - {4 + number for number in running})
        assert {masks(kernel)[number] for number in new} == {left}
    assert masks(kernel) == before | dict.fromkeys(new, "4-7" if near else "0-7")
    assert not list(memory.glob("*.journal"))


@pytest.mark.parametrize(
    ("order", "between"), [(("one", "two"), "0-4,7"), (("two", "one"), "0-3,6-7")]
)
@pytest.mark.parametrize("older", [False, True])
def test_a_line_that_a_guest_had_when_another_vm_started(
    order: tuple[str, ...], between: str, older: bool, memory: Path
) -> None:
    """Later it is nobody's: the other VM has not claimed it, and left it with older CPUs. There may
    be a third VM, which ran before it came up."""
    kernel, line, third = host(), "/proc/irq/30/smp_affinity_list", domain("1", name="third")
    vms = {"one": domain("4", "5", name="one"), "two": domain("5", "6", name="two")}
    if older:
        perform(kernel, memory, third)
        between = between.replace("0-", "0,2-")
    perform(kernel, memory, vms["one"])
    come_up(kernel, 30)
    mask = kernel.files.pop(line)
    perform(kernel, memory, vms["two"])
    kernel.files[line] = mask
    for name, left in zip(order, (between, "0,2-7" if older else "0-7"), strict=True):
        assert engine(kernel, memory).undo("stopped", vms[name].uuid) == []
        assert masks(kernel)[30] == left
    engine(kernel, memory).undo("stopped", third.uuid)
    assert masks(kernel)[30] == "0-7"
    assert not list(memory.glob("*.journal"))


def test_an_interrupt_that_follows_is_told(memory: Path) -> None:
    kernel, vm, log = host(), domain("4"), Lines()
    perform(kernel, memory, vm)
    come_up(kernel, 30)
    assert Engine(kernel, StateFolder(str(memory)), log).undo("stopped", vm.uuid) == []
    told = "vm: irqs: /proc/irq/30/smp_affinity_list: 0-3,5-7 → 0-7"
    assert told in log.infos


def test_an_interrupt_that_was_there_before_has_its_own_value(memory: Path) -> None:
    """Even if an interrupt that starts with this plan's mask would have the same value."""
    kernel, vm = host(), "00000000-0000-0000-0000-00000000000a"
    kernel.write(IrqAffinity(24).key, "0-3")
    steps = [Step("irqs", knob, Subtract("4-7")) for knob in (IrqDefault(), IrqAffinity(24))]
    engine(kernel, memory).perform("prepare", vm, "vm", lambda _: steps)
    assert engine(kernel, memory).undo("release", vm) == []
    assert masks(kernel)[24] == "0-3"


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("other", ["none", "before", "after"])
def test_a_line_of_the_vms_comes_back(was_there: bool, other: str, memory: Path) -> None:
    kernel, vm, second = host(), domain("4", "5"), domain("6", name="second")
    if was_there:
        come_up(kernel, 30)
    if other == "before":
        perform(kernel, memory, second)
    perform(kernel, memory, vm)
    if not was_there:
        come_up(kernel, 30)
    vectors.keep_line(engine(kernel, memory), vm.uuid, vm.name, "4-5", 30)
    vectors.keep_line(engine(kernel, memory), vm.uuid, vm.name, "4-5", 30)
    if other == "after":
        perform(kernel, memory, second)
    assert masks(kernel)[30] == "4-5"
    assert engine(kernel, memory).undo("stopped", vm.uuid) == []
    assert masks(kernel)[30] == ("0-7" if other == "none" else "0-5,7")
    vectors.keep_line(engine(kernel, memory), vm.uuid, vm.name, "4-5", 30)
    assert engine(kernel, memory).undo("stopped", second.uuid) == []
    assert masks(kernel)[30] == "0-7"
    assert not list(memory.glob("*.journal"))


@pytest.mark.parametrize("was_there", [False, True])
@pytest.mark.parametrize("is_line", [False, True])
def test_an_interrupt_that_starts_before_a_cpu(
    was_there: bool, is_line: bool, memory: Path
) -> None:
    kernel, vm = host(), domain("4", "5")
    if was_there:
        kernel.files["/proc/irq/30/smp_affinity_list"] = "0-7\n"
    kernel.files["/proc/irq/31/smp_affinity_list"] = "0-2\n"  # by its owner's choice
    kernel.files[ONLINE] = "0-6\n"
    perform(kernel, memory, vm)
    come_up(kernel, 30)
    assert masks(kernel)[30] == "0-3,6"
    kernel.files[ONLINE] = "0-7\n"
    if is_line:
        vectors.keep_line(engine(kernel, memory), vm.uuid, vm.name, "4-5", 30)
    assert engine(kernel, memory).undo("stopped", vm.uuid) == []
    assert (masks(kernel)[30], masks(kernel)[31]) == ("0-7", "0-2")
    assert not list(memory.glob("*.journal"))


class Exhausted(Kernel):
    """A kernel whose CPUs have no interrupt vectors left."""

    def write(self, name: str, text: str) -> None:
        if name.endswith("/smp_affinity_list"):
            raise OSError(errno.ENOSPC, "No space left on device", name)
        super().write(name, text)


def test_no_vectors_left_is_one_line(memory: Path) -> None:
    kernel, vm = Exhausted(), domain("4-7")
    kernel.__dict__.update(host().__dict__)
    for number in range(30, 60):
        kernel.files[f"/proc/irq/{number}/smp_affinity_list"] = "0-7\n"
    log = perform(kernel, memory, vm)
    assert len(log.warnings) == 2
    assert "No space left on device; the CPUs that are left have no free" in log.warnings[0]
    assert log.warnings[1].endswith("more like it)")
