"""What is wrong with the pins of a VM's vCPUs by themselves."""

from collections.abc import Iterator

from vfio_hooks.domain.editing import Edit, put
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.placement.kinds import Fault
from vfio_hooks.placement.room import Room
from vfio_hooks.plural import numbered, verb


def offline(room: Room) -> Iterator[Fault]:
    vm = room.vm
    pins = {
        "vCPUs": frozenset[int]().union(*room.pins.values()),
        "iothreads": frozenset[int]().union(*vm.iothread_pins.values()),
        "emulator": vm.emulator_pin or frozenset(),
    }
    gone = {what: cpus - room.host.online for what, cpus in pins.items()}
    found = frozenset[int]().union(*gone.values())
    if found:
        names = ", ".join(what for what, cpus in gone.items() if cpus)
        yield Fault(
            "pins-offline",
            f"{numbered('CPU', found)} {verb(len(found))} not running on this host, but there are "
            f"pins to {'them' if len(found) > 1 else 'it'} ({names})",
            room.advice if room.better else f"pin to some of {format_list(room.host.online)}",
            cpus=found,
        )


def none(room: Room) -> Iterator[Fault]:
    if room.pins or not room.is_tuned:
        return
    is_wide = bool(room.vm.vcpu_pins)
    text = "no vCPU is pinned"
    if is_wide:
        text = "the vCPUs are pinned to every CPU, which is the same as no pin"
    if isinstance(room.best, HookError):
        text += f", and {room.best.problem}"
    yield Fault("pins-none", text, room.advice)


def everywhere(room: Room) -> Iterator[Fault]:
    if room.own and not room.host.online - room.own:
        how = room.best.hint if isinstance(room.best, HookError) else room.advice
        yield Fault(
            "pins-all",
            f"the vCPUs are pinned to all CPUs of this host ({format_list(room.own)}), so it has "
            "none to itself",
            how,
            cpus=room.own,
        )


def missing(room: Room) -> Iterator[Fault]:
    left = room.vcpus - room.pins.keys()
    if room.pins and left:
        yield Fault(
            "pins-missing",
            f"{numbered('vCPU', left)} {verb(len(left))} not pinned, although others are",
            room.advice,
        )


def isolated(room: Room) -> Iterator[Fault]:
    stuck = {v: cpus for v, cpus in room.pins.items() if len(cpus & room.isolated) > 1}
    if stuck:
        cpus = frozenset[int]().union(*stuck.values())
        yield Fault(
            "pins-isolated",
            f"{numbered('vCPU', stuck)} may use several isolated CPUs ({format_list(cpus)}), but "
            "will only run on the first",
            f"one CPU for each vCPU: {room.init}",
            cpus=cpus,
        )


def wide(room: Room) -> Iterator[Fault]:
    loose = {vcpu: cpus for vcpu, cpus in room.pins.items() if len(cpus) > 1}
    if loose and not any(cpus & room.isolated for cpus in loose.values()):
        cpus = next(iter(loose.values()))
        yield Fault(
            "pins-wide",
            f"{numbered('vCPU', loose)} may {'each ' * (len(loose) > 1)}use several CPUs "
            f"({format_list(cpus)}"
            f"{', …' if any(one != cpus for one in loose.values()) else ''})",
            f"one CPU for each vCPU: {room.init}",
        )


def twice(room: Room) -> Iterator[Fault]:
    users: dict[int, list[int]] = {}
    for vcpu, cpu in room.single.items():
        users.setdefault(cpu, []).append(vcpu)
    shared = {cpu: vcpus for cpu, vcpus in users.items() if len(vcpus) > 1}
    if shared:
        told = "; ".join(f"{format_list(vcpus)} to CPU {cpu}" for cpu, vcpus in shared.items())
        yield Fault(
            "pins-twice",
            f"several vCPUs are pinned to one CPU: {told}",
            room.advice,
            cpus=frozenset(shared),
        )


def siblings(room: Room) -> Iterator[Fault]:
    """Pins that pair vCPUs in another way than the guest sees them."""
    threads, cores = room.vm.threads, room.host.cores
    sizes = {len(core & room.own) for core in cores if core & room.own}
    # If the numbers differ, the guest's topology is wrong, which is another finding.
    if threads < 2 or threads > max(map(len, cores)) or (len(sizes) == 1 and threads not in sizes):
        return
    if room.single.keys() != room.vcpus or room.vm.idle_vcpus or room.vm.vcpus % threads:
        return
    firsts = range(0, room.vm.vcpus, threads)
    groups = [frozenset(room.single[vcpu] for vcpu in range(f, f + threads)) for f in firsts]
    wrong = [cpus for cpus in groups if not any(cpus <= core for core in cores)]
    if not wrong or len(room.own) != room.vm.vcpus:
        return
    better = _by_core(cores, [room.single[vcpu] for vcpu in sorted(room.single)])
    parts = [frozenset(better[at : at + threads]) for at in firsts]
    complete = all(any(part <= core for core in cores) for part in parts)
    first = groups.index(wrong[0]) * threads
    yield Fault(
        "pins-siblings",
        f"vCPUs {first}-{first + threads - 1} are one core's threads for the guest, and pinned to "
        f"CPUs {format_list(wrong[0])}, which are not"
        + (f"; so {'is' if len(wrong) == 2 else 'are'} {len(wrong) - 1} more" if wrong[1:] else ""),
        "" if complete else room.advice,
        tuple(_pin(vcpu, cpu) for vcpu, cpu in enumerate(better)) if complete else (),
        cpus=frozenset[int]().union(*wrong),
    )


def _pin(vcpu: int, cpu: int) -> Edit:
    return put(f"cputune/vcpupin[@vcpu='{vcpu}']", cpuset=str(cpu))


def _by_core(cores: tuple[CpuSet, ...], cpus: list[int]) -> list[int]:
    """The same CPUs with those of a core next to each other, and cores in their first order."""
    home = {cpu: index for index, core in enumerate(cores) for cpu in core}
    order: dict[int, None] = dict.fromkeys(home.get(cpu, -1 - cpu) for cpu in cpus)
    rank = {core: index for index, core in enumerate(order)}
    return sorted(cpus, key=lambda cpu: (rank[home.get(cpu, -1 - cpu)], cpu))


def half_core(room: Room) -> Iterator[Fault]:
    # If vCPUs may use several CPUs, that is another finding.
    if len(room.single) < len(room.vcpus):
        return
    halves = [core for core in room.host.cores if core & room.own and core - room.own]
    if halves:
        cpus = frozenset[int]().union(*halves)
        others = cpus - room.own
        siblings = "its SMT sibling" if len(others) == 1 else "their SMT siblings"
        yield Fault(
            "pins-half-core",
            f"the vCPUs have {numbered('CPU', cpus & room.own)} but not {siblings} "
            f"{format_list(others)}, which the host uses",
            room.advice,
            cpus=cpus,
        )


def cpu_0(room: Room) -> Iterator[Fault]:
    first = min(room.host.online)
    if first in room.own and room.is_no_worse and room.host.online - room.own:
        vcpu = min(vcpu for vcpu, cpus in room.pins.items() if first in cpus)
        yield Fault(
            "pins-cpu-0",
            f"vCPU {vcpu} may use CPU {first}, which is busy with the host's own work",
            room.advice,
            cpus=frozenset({first}),
        )


RULES = (offline, everywhere, none, missing, isolated, twice, siblings, half_core, wide, cpu_0)
