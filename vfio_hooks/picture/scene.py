"""What the picture shows, as data: sockets, nodes, caches, cores, and which VM is where."""

from collections.abc import Iterable, Iterator, Sequence

from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, pci
from vfio_hooks.host import cpu as cpus_of
from vfio_hooks.host.cpu import Topology, topology
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.pci_traits import Link, missing_lanes, names, traits
from vfio_hooks.host.threads import interrupts_by_cpu
from vfio_hooks.picture.wrong import Function, Problem, problems
from vfio_hooks.record import record


@record
class Vm:
    """A VM of the picture; `letter` stands for it in narrow places."""

    name: str
    letter: str
    vcpus: int
    running: bool
    pinned: CpuSet


@record
class Seat:
    """What a VM has pinned to a CPU."""

    letter: str
    vcpus: tuple[int, ...]
    emulator: bool
    iothreads: tuple[int, ...]


@record
class Cpu:
    """A CPU: what is pinned to it, its part of all device interrupts since the boot (0 to 1, None
    if it is not known), and the numbers of the problems that concern it."""

    number: int
    seats: tuple[Seat, ...]
    interrupts: float | None
    wrong: tuple[int, ...]


@record
class Group:
    """Cores of one kind that share a level 3 cache; its size is in KiB, 0 without one."""

    size: int
    kind: str
    cores: tuple[tuple[Cpu, ...], ...]

    @property
    def cpus(self) -> list[Cpu]:
        return [cpu for core in self.cores for cpu in core]


@record
class Device:
    """A PCI function that a VM has or could have; `vms` are the letters of those that name it."""

    address: str
    kind: str
    name: str
    driver: str | None
    group: str | None
    node: int | None
    link: Link | None
    best: Link | None
    vms: tuple[str, ...]
    wrong: tuple[int, ...]


@record
class Node:
    """A NUMA node, or the part of one that is in a socket; memory in KiB."""

    number: int
    memory: int
    groups: tuple[Group, ...]
    devices: tuple[Device, ...]


@record
class Socket:
    number: int
    nodes: tuple[Node, ...]


@record
class Scene:
    """The whole picture. `elsewhere` are nodes without CPUs, `homeless` devices without a known
    node."""

    sockets: tuple[Socket, ...]
    elsewhere: tuple[Node, ...]
    homeless: tuple[Device, ...]
    vms: tuple[Vm, ...]
    problems: tuple[Problem, ...]
    offline: CpuSet


def scene(host: Host, domains: Sequence[tuple[Domain, bool]]) -> Scene:
    """The picture of a host and of domains, each with whether it runs. Raises HookError if the host
    shows no CPU, or if its files cannot be from a kernel."""
    found = topology(host)
    letters = {domain.uuid: _letter(number) for number, (domain, _) in enumerate(domains)}
    passed = {function.address for domain, _ in domains for function in domain.pci}
    functions = tuple(_functions(host, passed))
    wrong = tuple(problems(host, found, domains, functions))
    devices = _devices(functions, domains, letters, wrong)
    numbers = {node.number for node in found.nodes}
    if len(numbers) == 1:
        # If there is only one node, firmware often does not name it.
        home = {device.address: next(iter(numbers)) for device in devices}
    else:
        home = {
            one.address: one.node for one in devices if one.node in numbers and one.node is not None
        }
    weights = interrupts_by_cpu(host)
    total = sum(weights.values())

    def cpu(number: int) -> Cpu:
        return Cpu(
            number,
            tuple(_seats(number, domains, letters)),
            weights.get(number, 0) / total if total else None,
            tuple(problem.number for problem in wrong if number in problem.cpus),
        )

    def node(one: cpus_of.Node, within: CpuSet, first: bool) -> Node:
        mine = tuple(d for d in devices if home.get(d.address) == one.number) if first else ()
        groups = tuple(
            Group(size, kind, tuple(tuple(cpu(one) for one in sorted(core)) for core in cores))
            for size, kind, cores in _groups(found, one.cpus & within)
        )
        return Node(one.number, one.memory, groups, mine)

    drawn: set[int] = set()
    sockets = []
    for number, package in enumerate(found.packages):
        parts = []
        for one in found.nodes:
            if one.cpus & package:
                parts.append(node(one, package, one.number not in drawn))
                drawn.add(one.number)
        sockets.append(Socket(number, tuple(parts)))
    return Scene(
        tuple(sockets),
        tuple(node(one, frozenset(), True) for one in found.nodes if one.number not in drawn),
        tuple(device for device in devices if device.address not in home),
        tuple(
            Vm(domain.name, letters[domain.uuid], domain.vcpus, running, domain.pinned)
            for domain, running in domains
        ),
        wrong,
        found.offline,
    )


def _letter(number: int) -> str:
    """A to Z, then AA, AB and so on."""
    high, low = divmod(number, 26)
    return (_letter(high - 1) if high else "") + chr(ord("A") + low)


def _groups(found: Topology, cpus: CpuSet) -> Iterator[tuple[int, str, list[CpuSet]]]:
    """Size, kind and cores of each level 3 cache of these CPUs."""
    left = cpus
    for cache in found.l3:
        if cache.cpus & left:
            yield from _kinds(found, cache.size, cache.cpus & left)
            left -= cache.cpus
    if left:
        yield from _kinds(found, 0, left)


def _kinds(found: Topology, size: int, cpus: CpuSet) -> Iterator[tuple[int, str, list[CpuSet]]]:
    left = cpus
    for kind, members in [*found.kinds.items(), ("", cpus)]:
        if mine := members & left:
            yield size, kind, [core & mine for core in found.cores if core & mine]
            left -= mine


def _functions(host: Host, passed: Iterable[str]) -> Iterator[Function]:
    """The functions to show: passed ones, those that VFIO has, and the host's graphics cards."""
    wanted = set(passed)
    for address in host.names(pci.DEVICES):
        function = pci.function(host, address)
        if function and (
            address in wanted or pci.is_for_guests(function.driver) or function.is_display
        ):
            yield Function(function, traits(host, address), missing_lanes(host, address))


def _devices(
    functions: Sequence[Function],
    domains: Sequence[tuple[Domain, bool]],
    letters: dict[str, str],
    wrong: Sequence[Problem],
) -> tuple[Device, ...]:
    titles = names(one.base.ids for one in functions)
    return tuple(
        Device(
            address=one.base.address,
            kind=one.traits.kind,
            name=titles.get(one.base.ids, one.base.ids),
            driver=one.base.driver,
            group=one.base.group,
            node=one.traits.node,
            link=one.traits.link,
            best=one.traits.best,
            vms=tuple(
                letters[domain.uuid]
                for domain, _ in domains
                if one.base.address in {function.address for function in domain.pci}
            ),
            wrong=tuple(found.number for found in wrong if one.base.address in found.devices),
        )
        for one in functions
    )


def _seats(
    number: int, domains: Sequence[tuple[Domain, bool]], letters: dict[str, str]
) -> Iterator[Seat]:
    for domain, _ in domains:
        seat = Seat(
            letters[domain.uuid],
            tuple(vcpu for vcpu, cpus in sorted(domain.vcpu_pins.items()) if number in cpus),
            number in (domain.emulator_pin or ()),
            tuple(one for one, cpus in sorted(domain.iothread_pins.items()) if number in cpus),
        )
        if seat.vcpus or seat.emulator or seat.iothreads:
            yield seat
