"""A host's CPUs as QEMU can have them: each NUMA node with the same cores, each core with the same
SMT siblings, which are numbered side by side."""

from collections.abc import Iterable, Iterator, Sequence

from vfio_hooks.host import Host
from vfio_hooks.host.cpu import CPUS, Node, Topology, topology
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.plural import counted, verb
from vfio_hooks.record import record

MOST = 16
"""The most CPUs that are emulated: each is a thread of one QEMU."""


@record
class Processors:
    """The number of sockets, of NUMA nodes in each socket, of cores in each node, and of SMT
    siblings of each core. `cpus` and `nodes` map each imitated CPU and node to its number in the
    likeness. `lost` says what is not imitated."""

    sockets: int
    nodes_per_socket: int
    cores: int
    threads: int
    cpus: dict[int, int]
    nodes: dict[int, int]
    lost: tuple[str, ...] = ()


def processors(host: Host, pinned: CpuSet) -> Processors:
    """The CPUs of a host's likeness. If there are too many, the pinned ones come first. Raises
    HookError for a host that shows no CPUs."""
    found = topology(host)
    homes = [node for node in found.nodes if node.cpus][:MOST]
    sockets = _sockets(found, homes)
    cores, threads = _cores(found, len(homes))
    per_node = [_of(node, cores) for node in homes]
    count = max(1, min(MOST // (len(homes) * threads), *map(len, per_node)))
    cpus: dict[int, int] = {}
    for ours in per_node:
        for core in _chosen(ours, pinned, count):
            for cpu in sorted(core):
                cpus[cpu] = len(cpus)
    return Processors(
        sockets=sockets,
        nodes_per_socket=len(homes) // sockets,
        cores=count,
        threads=threads,
        cpus=cpus,
        nodes={node.number: number for number, node in enumerate(homes)},
        lost=tuple(_lost(host, found, homes, cpus)),
    )


def _sockets(found: Topology, homes: Sequence[Node]) -> int:
    """The number of packages if each has the same number of nodes, otherwise 1."""
    counts = [sum(node.cpus <= package for node in homes) for package in found.packages]
    alike = len(set(counts)) == 1 and sum(counts) == len(homes)
    return len(counts) if alike else 1


def _cores(found: Topology, nodes: int) -> tuple[tuple[CpuSet, ...], int]:
    """The cores, and the number of SMT siblings of each. If cores are not alike, each CPU is a core
    by itself."""
    sizes = {len(core) for core in found.cores}
    threads = min(sizes)
    if len(sizes) == 1 and threads * nodes <= MOST:
        return found.cores, threads
    return tuple(frozenset({cpu}) for cpu in sorted(found.online)), 1


def _of(node: Node, cores: Iterable[CpuSet]) -> list[CpuSet]:
    return [core for core in cores if core <= node.cpus]


def _chosen(cores: Sequence[CpuSet], pinned: CpuSet, count: int) -> list[CpuSet]:
    """Cores of a node: first one that only the host uses, then those of the VM, then the rest."""
    own = [core for core in cores if not core & pinned]
    vms = [core for core in cores if core & pinned]
    return sorted([*own[:1], *vms, *own[1:]][:count], key=min)


def _lost(
    host: Host, found: Topology, homes: Sequence[Node], cpus: dict[int, int]
) -> Iterator[str]:
    if len(cpus) < len(found.online):
        there = f"{len(cpus)} of its {len(found.online)} CPUs {verb(len(cpus))} there"
        yield f"{there}: {format_list(cpus)}"
    if len(homes) < len(found.nodes):
        missing = len(found.nodes) - len(homes)
        yield f"{counted(missing, 'NUMA node')} {verb(missing)} missing"
    if len({len(core) for core in found.cores}) > 1 or found.kinds:
        yield "its cores differ from each other; there, all are alike"
    if len(found.l3) != len(homes):
        yield f"it has {counted(len(found.l3), 'level 3 cache')}; there, each NUMA node has one"
    if found.offline:
        yield f"CPUs that are offline: {format_list(found.offline)}"
    driver = host.maybe(f"{CPUS}/cpufreq/policy0/scaling_driver")
    if driver and driver != "acpi-cpufreq":
        yield f"the cpufreq driver is {driver}; there, acpi-cpufreq with three frequencies"
