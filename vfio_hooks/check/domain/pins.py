"""Which host CPUs the domain's vCPUs may use."""

from collections import Counter
from collections.abc import Iterator
from shlex import quote
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import attribute, passed, whole
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.devices import iothread_ids
from vfio_hooks.domain.editing import Fix
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.init.placement import place
from vfio_hooks.init.wish import wish

if TYPE_CHECKING:
    from lxml.etree import _Element

_GUIDE = "guide: CPU Pinning"


@guest_rule(
    "pins-none",
    "warning",
    why="The host moves vCPUs that are not pinned from CPU to CPU, away from their caches, and "
    "two of them onto one core.",
    source=_GUIDE,
)
def none(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if passed(patient, guest) and not guest.domain.vcpu_pins:
        yield Seen(
            "no vCPU is pinned",
            f"sudo vfio-hooks init {quote(guest.domain.name)} --pins{_chosen(patient, guest)}",
        )


def _chosen(patient: Patient, guest: Guest) -> str:
    """What that command does, where it can."""
    threads = len(iothread_ids(guest.xml))
    wanted = wish(guest.domain, threads, patient.others, patient.host)
    try:
        cpus = place(patient.topology, wanted).vcpus
    except HookError:
        return ""
    return f"\nIt pins the vCPUs, in their order, to CPUs {' '.join(map(str, cpus))}."


@guest_rule(
    "pins-missing",
    "warning",
    why="A vCPU that is not pinned runs on the CPUs of the others too.",
    source="cpu-tuning",
)
def missing(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain = guest.domain
    left = [vcpu for vcpu in range(domain.vcpus) if vcpu not in domain.vcpu_pins]
    if domain.vcpu_pins and left:
        yield Seen(
            f"of {domain.vcpus} vCPUs, {format_list(left)} {_are(left)} not pinned",
            f"<cputune><vcpupin vcpu='{left[0]}' cpuset='…'/>",
        )


@guest_rule(
    "pins-wide",
    "hint",
    why="A vCPU that may use several CPUs is moved between them, and loses its caches each time.",
    source=_GUIDE,
    sure="likely",
)
def wide(patient: Patient, guest: Guest) -> Iterator[Seen]:
    loose = {vcpu: cpus for vcpu, cpus in guest.domain.vcpu_pins.items() if len(cpus) > 1}
    if loose:
        vcpu, cpus = min(loose.items())
        yield Seen(
            f"vCPU {format_list(loose)} may use several CPUs ({format_list(cpus)})",
            f"one CPU for each: <vcpupin vcpu='{vcpu}' cpuset='{min(cpus)}'/>",
        )


@guest_rule(
    "pins-offline",
    "error",
    why="libvirt does not start a domain that is pinned to a CPU that does not run.",
    source="cpu-tuning",
)
def offline(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for what, cpus in _pins(guest):
        gone = cpus - patient.topology.online
        if gone:
            yield Seen(
                f"CPU {format_list(gone)} is not running on this host, and {what} pinned to it",
                f"pin to some of {format_list(patient.topology.online)}",
            )


def _pins(guest: Guest) -> Iterator[tuple[str, CpuSet]]:
    domain = guest.domain
    yield "vCPUs are", domain.pinned
    yield "iothreads are", frozenset[int]().union(*domain.iothread_pins.values())
    yield "the emulator is", domain.emulator_pin or frozenset()


@guest_rule(
    "pins-twice",
    "warning",
    why="Two vCPUs on one CPU wait for each other; a guest that spins for a lock spins in vain.",
    source=_GUIDE,
)
def twice(patient: Patient, guest: Guest) -> Iterator[Seen]:
    pins = guest.domain.vcpu_pins
    users = Counter(cpu for cpus in pins.values() if len(cpus) == 1 for cpu in cpus)
    for cpu, count in users.items():
        if count > 1:
            shared = [vcpu for vcpu, cpus in pins.items() if cpus == {cpu}]
            yield Seen(
                f"vCPUs {format_list(shared)} are all pinned to CPU {cpu}",
                f"another CPU for each: <vcpupin vcpu='{shared[1]}' cpuset='…'/>",
            )


@guest_rule(
    "pins-siblings",
    "warning",
    why="The guest takes vCPUs 0 and 1 for two threads of a core; where they are not, it puts its "
    "programs on the wrong caches, and two busy ones on one core.",
    source=_GUIDE,
)
def siblings(patient: Patient, guest: Guest) -> Iterator[Seen]:
    cores, pins = patient.topology.cores, guest.domain.vcpu_pins
    threads = whole(attribute(guest, "cpu/topology", "threads"), 1)
    if threads < 2 or any(len(cpus) != 1 for cpus in pins.values()):
        return
    if set(pins) != set(range(guest.domain.vcpus)) or guest.domain.vcpus % threads:
        return
    of_guest = [
        frozenset[int]().union(*(pins[vcpu] for vcpu in range(first, first + threads)))
        for first in range(0, guest.domain.vcpus, threads)
    ]
    wrong = [cpus for cpus in of_guest if not any(cpus <= core for core in cores)]
    if not wrong:
        return
    better = _by_core(cores, [min(pins[vcpu]) for vcpu in sorted(pins)])
    complete = all(
        any(set(better[at : at + threads]) <= core for core in cores)
        for at in range(0, len(better), threads)
    )
    lines = [f"<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>" for vcpu, cpu in enumerate(better)]
    first = of_guest.index(wrong[0])
    yield Seen(
        f"vCPUs {first * threads}-{first * threads + threads - 1} are one core's threads for the "
        f"guest, and pinned to CPUs {format_list(wrong[0])}, which are not"
        + (f"; so are {len(wrong) - 1} more" if len(wrong) > 1 else ""),
        "\n".join(lines) if complete else "pin them to whole cores (lscpu --extended)",
        _pinned(better) if complete and len(set(better)) == len(better) else None,
    )


def _by_core(cores: tuple[CpuSet, ...], cpus: list[int]) -> list[int]:
    """The same CPUs with those of a core beside each other, cores in the order they come in."""
    home = {cpu: index for index, core in enumerate(cores) for cpu in core}
    order: dict[int, None] = dict.fromkeys(home.get(cpu, -1 - cpu) for cpu in cpus)
    rank = {core: index for index, core in enumerate(order)}
    return sorted(cpus, key=lambda cpu: (rank[home.get(cpu, -1 - cpu)], cpu))


def _pinned(cpus: list[int]) -> Fix:
    """A fix that pins vCPU 0, 1, … to these."""

    def fix(root: "_Element") -> None:
        for pin in root.iterfind("cputune/vcpupin"):
            vcpu = whole(pin.get("vcpu"))
            if vcpu < len(cpus):
                pin.set("cpuset", str(cpus[vcpu]))

    return fix


@guest_rule(
    "pins-half-core",
    "warning",
    why="Two threads share a core's caches and units: what the host does on one slows the other.",
    source="guide: vfio-isolate",
)
def half_core(patient: Patient, guest: Guest) -> Iterator[Seen]:
    own = guest.domain.pinned
    halves = [core for core in patient.topology.cores if core & own and core - own]
    if halves:
        left = frozenset[int]().union(*halves) - own
        yield Seen(
            f"the host keeps CPU {format_list(left)}, whose cores the vCPUs are on",
            "pin vCPUs to whole cores (lscpu --extended)",
        )


@guest_rule(
    "pins-cpu-0",
    "hint",
    why="The first CPU has the host's timekeeping and most of its interrupts and kernel threads.",
    source="https://docs.kernel.org/timers/no_hz.html",
    sure="likely",
)
def cpu_0(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if 0 in guest.domain.pinned and len(patient.topology.online) > guest.domain.vcpus:
        vcpu = min(vcpu for vcpu, cpus in guest.domain.vcpu_pins.items() if 0 in cpus)
        yield Seen(
            f"vCPU {vcpu} may use CPU 0",
            f"another core for it, and the first one for the host: <vcpupin vcpu='{vcpu}' …/>",
        )


def _are(items: list[int]) -> str:
    return "is" if len(items) == 1 else "are"


RULES = (
    none,
    missing,
    wide,
    offline,
    twice,
    siblings,
    half_core,
    cpu_0,
)
