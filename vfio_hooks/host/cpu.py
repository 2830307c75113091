"""CPUs, the caches and cores that they share, and the NUMA nodes that they are near to.

https://docs.kernel.org/admin-guide/cputopology.html, Documentation/ABI/stable/sysfs-devices-node
and Documentation/ABI/stable/sysfs-devices-system-cpu. Masks are read, not lists: old kernels have
no lists, and Linux 3 has wrong ones for the caches of AMD's compute units.
"""

from __future__ import annotations

import re
from itertools import accumulate

from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import CpuSet, parse_list, parse_mask
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from vfio_hooks.host import Host

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"
_HYBRID_PMUS = {"performance": "cpu_core", "efficiency": "cpu_atom", "low power": "cpu_lowpower"}
_SAME_KIND = 0.9
"""CPUs whose speeds differ by less than a tenth are one kind: favoured cores boost higher."""


@record
class Node:
    """A NUMA node: its online CPUs, which may be none, its memory in KiB, which may be 0, and
    how far it is to each node (10 is itself)."""

    number: int
    cpus: CpuSet
    memory: int
    distances: dict[int, int]


@record
class Cache:
    """A unified cache of level 2 or higher: the CPUs that share it, and its size in KiB."""

    level: int
    cpus: CpuSet
    size: int

    def is_dwarfed(self, size: int) -> bool:
        """Whether a cache of `size` KiB is at least half as large again, as AMD's X3D caches
        are."""
        return self.size * 3 <= size * 2 and self.size > 0


@record
class Topology:
    """What a host's online CPUs share. Each tuple of sets is disjoint, and ordered by the lowest
    CPU in each: a core's SMT siblings; the cores of a cluster (an Intel E-core module, an Arm
    DSU); a package (socket). `kinds` are the CPUs of each kind of core, the fastest first; it is
    empty if all CPUs are alike."""

    online: CpuSet
    offline: CpuSet
    cores: tuple[CpuSet, ...]
    clusters: tuple[CpuSet, ...]
    packages: tuple[CpuSet, ...]
    caches: tuple[Cache, ...]
    nodes: tuple[Node, ...]
    kinds: dict[str, CpuSet]

    @property
    def l3(self) -> tuple[Cache, ...]:
        """The level 3 caches: on an AMD host one for each CCX."""
        return tuple(cache for cache in self.caches if cache.level == 3)

    def fewest_l3(self, count: int) -> int:
        """How many level 3 caches have this many CPUs together, or all of them; 0 without any."""
        sizes = sorted((len(cache.cpus) for cache in self.l3), reverse=True)
        sums = accumulate(sizes, initial=0)
        return min(sum(together < count for together in sums), len(sizes))

    def siblings(self, cpus: Iterable[int]) -> CpuSet:
        """The CPUs, and those that share a core with any of them."""
        wanted = frozenset(cpus)
        return wanted.union(*(core for core in self.cores if core & wanted))


def online(host: Host) -> CpuSet:
    """The CPUs that are online now. Raises HookError if the host shows none."""
    text = host.maybe(f"{CPUS}/online")
    if text:
        return _parsed(parse_list, text, f"{CPUS}/online")
    # CPU 0 of most machines cannot be taken offline, and so has no such file.
    cpus = frozenset(cpu for cpu in _numbered(host) if host.maybe(f"{CPUS}/cpu{cpu}/online") != "0")
    if not cpus:
        raise HookError(f"{CPUS} has no CPU", "is this the root of a host's /sys?")
    return cpus


def possible(host: Host) -> CpuSet:
    """Every CPU that could ever come online in this boot, including those of empty sockets."""
    text = host.maybe(f"{CPUS}/possible")
    return _parsed(parse_list, text, f"{CPUS}/possible") if text else online(host)


def nodes(host: Host) -> tuple[Node, ...]:
    """The NUMA nodes in the order of their numbers; one with all CPUs if there is no NUMA."""
    running = online(host)
    numbers = sorted(
        int(name[4:]) for name in host.names(NODES) if re.fullmatch(r"node[0-9]+", name)
    )
    if not numbers:
        return (Node(0, running, _total(host.maybe("/proc/meminfo")), {0: 10}),)
    return tuple(
        Node(
            number,
            _mask(host, f"{NODES}/node{number}/cpumap") & running,
            _total(host.maybe(f"{NODES}/node{number}/meminfo")),
            dict(
                zip(
                    numbers,
                    map(_number, (host.maybe(f"{NODES}/node{number}/distance") or "").split()),
                    strict=False,
                )
            ),
        )
        for number in numbers
    )


def nearest_first(near: Iterable[int], known: Iterable[Node]) -> list[CpuSet]:
    """The CPUs of each node that has any, those nearest to the CPUs `near` first.

    The order is by the shortest distance from a node that one of `near` is on.
    """
    wanted, known = frozenset(near), tuple(known)
    homes = [node for node in known if node.cpus & wanted]

    def distance(node: Node) -> int:
        return min((home.distances.get(node.number, 255) for home in homes), default=0)

    return [node.cpus for node in sorted(known, key=distance) if node.cpus]


def topology(host: Host) -> Topology:
    """The whole topology of a host. Raises HookError if the host shows no CPU."""
    running = online(host)
    present = host.maybe(f"{CPUS}/present")
    path = f"{CPUS}/present"
    every = _parsed(parse_list, present, path) if present else frozenset(_numbered(host))
    caches = _caches(host, running)
    clusters = _groups(host, running, "cluster_cpus")
    if all(len(cluster) == 1 for cluster in clusters):
        clusters = tuple(cache.cpus for cache in caches if cache.level == 2) or clusters
    return Topology(
        online=running,
        offline=every - running,
        cores=_groups(host, running, "thread_siblings"),
        clusters=clusters,
        packages=_groups(host, running, "core_siblings"),
        caches=caches,
        nodes=nodes(host),
        kinds=_kinds(host, running),
    )


def _numbered(host: Host) -> list[int]:
    return sorted(int(name[3:]) for name in host.names(CPUS) if re.fullmatch("cpu[0-9]+", name))


def _groups(host: Host, running: CpuSet, file: str) -> tuple[CpuSet, ...]:
    """The disjoint sets in one of the CPUs' topology files; one file is read for each set."""
    groups: list[CpuSet] = []
    left = set(running)
    while left:
        first = min(left)
        group = _mask(host, f"{CPUS}/cpu{first}/topology/{file}") & left | {first}
        groups.append(frozenset(group))
        left -= group
    return tuple(groups)


def _caches(host: Host, running: CpuSet) -> tuple[Cache, ...]:
    found: list[Cache] = []
    covered: dict[int, set[int]] = {}
    for cpu in sorted(running):
        folder = f"{CPUS}/cpu{cpu}/cache"
        for index in host.names(folder):
            if host.maybe(f"{folder}/{index}/type") != "Unified":
                continue
            level = _number(host.maybe(f"{folder}/{index}/level"))
            if level < 2 or cpu in covered.setdefault(level, set()):
                continue
            cpus = _mask(host, f"{folder}/{index}/shared_cpu_map") & running | {cpu}
            covered[level] |= cpus
            found.append(Cache(level, cpus, _kibibytes(host.maybe(f"{folder}/{index}/size"))))
    return tuple(sorted(found, key=lambda cache: (cache.level, min(cache.cpus))))


def _kinds(host: Host, running: CpuSet) -> dict[str, CpuSet]:
    """The kinds of cores of a hybrid processor: by Intel's PMUs, or else by the speeds that the
    firmware gives for each CPU."""
    named = {
        name: _parsed(parse_list, text, path) & running
        for name, pmu in _HYBRID_PMUS.items()
        if (text := host.maybe(path := f"/sys/devices/{pmu}/cpus"))
    }
    if len(named) > 1:
        return named
    for file in ("cpufreq/base_frequency", "cpu_capacity"):
        speeds = {cpu: host.maybe(f"{CPUS}/cpu{cpu}/{file}") for cpu in running}
        if all(speed and speed.isdecimal() for speed in speeds.values()):
            return _by_speed({cpu: int(speed or 0) for cpu, speed in speeds.items()})
    return {}


def _by_speed(speeds: dict[int, int]) -> dict[str, CpuSet]:
    kinds: list[set[int]] = []
    fastest = 0.0
    for cpu in sorted(speeds, key=lambda cpu: -speeds[cpu]):
        if not kinds or speeds[cpu] < fastest * _SAME_KIND:
            kinds.append(set())
            fastest = speeds[cpu]
        kinds[-1].add(cpu)
    if len(kinds) < 2:
        return {}
    names = [*_HYBRID_PMUS, *(f"kind {number}" for number in range(4, len(kinds) + 1))]
    return {name: frozenset(cpus) for name, cpus in zip(names, kinds, strict=False)}


def _mask(host: Host, path: str) -> CpuSet:
    """The CPUs of a mask file; none if there is no such file."""
    text = host.maybe(path)
    return _parsed(parse_mask, text, path) if text else frozenset()


def _parsed(parse: Callable[[str], CpuSet], text: str, path: str) -> CpuSet:
    try:
        return parse(text)
    except ValueError as error:
        raise HookError(f"{path}: {error}") from None


def _total(meminfo: str | None) -> int:
    found = re.search(r"MemTotal:\s*([0-9]+) kB", meminfo or "")
    return int(found[1]) if found else 0


def _kibibytes(size: str | None) -> int:
    """A cache's size file, "24576K", in KiB."""
    return _number((size or "").removesuffix("K"))


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0
