"""Hosts of many shapes, each in a few lines: what sysfs says of their CPUs, caches and nodes.

The captured ones are machines that the hwloc project has recorded, with nothing left of them but
their topology.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vfio_hooks.host.cpulist import CpuSet, format_list, format_mask, parse_list

CPUS = "/sys/devices/system/cpu"
NODES = "/sys/devices/system/node"


@dataclass(frozen=True)
class Shape:
    """CPU lists, in the kernel's notation: SMT siblings, packages and level 3 caches; and nodes,
    of `memory` GiB each. `kinds` are hybrid CPUs by the name of their PMU."""

    cores: Sequence[str]
    packages: Sequence[str]
    l3: Sequence[str]
    nodes: dict[int, str]
    offline: str = ""
    memory: int = 16
    kinds: dict[str, str] = field(default_factory=dict)

    def files(self) -> dict[str, str]:
        """The files of sysfs and procfs, by absolute name."""
        online = format_list(cpu for core in self.cores for cpu in parse_list(core))
        found = {
            f"{CPUS}/online": online,
            f"{CPUS}/present": format_list(parse_list(online) | parse_list(self.offline)),
            "/proc/meminfo": f"MemTotal: {len(self.nodes) * self.memory << 20} kB",
        }
        for name, groups in (("thread_siblings", self.cores), ("core_siblings", self.packages)):
            for group in map(parse_list, groups):
                for cpu in group:
                    found[f"{CPUS}/cpu{cpu}/topology/{name}"] = format_mask(group)
        for cpus in map(parse_list, self.l3):
            for cpu in cpus:
                folder = f"{CPUS}/cpu{cpu}/cache/index3"
                found[f"{folder}/level"], found[f"{folder}/type"] = "3", "Unified"
                found[f"{folder}/size"] = "32768K"
                found[f"{folder}/shared_cpu_map"] = format_mask(cpus)
        for number, text in self.nodes.items():
            folder = f"{NODES}/node{number}"
            found[f"{folder}/cpumap"] = format_mask(parse_list(text))
            found[f"{folder}/meminfo"] = f"Node {number} MemTotal: {self.memory << 20} kB"
            distances = ("10" if other == number else "20" for other in self.nodes)
            found[f"{folder}/distance"] = " ".join(distances)
        for pmu, text in self.kinds.items():
            found[f"/sys/devices/{pmu}/cpus"] = text
        return {name: text + "\n" for name, text in found.items()}

    def write(self, root: Path) -> Path:
        """Make a host of plain files below a folder."""
        for name, text in self.files().items():
            file = root / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return root

    @property
    def core_sets(self) -> list[CpuSet]:
        return list(map(parse_list, self.cores))


def regular(
    sockets: int, nodes: int, caches: int, cores: int, threads: int, adjacent: bool = False
) -> Shape:
    """`nodes` a socket, `caches` a node, `cores` a cache. Siblings have neighbouring numbers, or
    the second threads of all cores come after all the first."""
    total = sockets * nodes * caches * cores

    def part(count: int) -> list[str]:
        """All cores in that many equal parts."""
        size = total // count
        parts = (range(number * size, (number + 1) * size) for number in range(count))
        return [format_list(cpu for core in one for cpu in siblings(core)) for one in parts]

    def siblings(core: int) -> list[int]:
        if adjacent:
            return [core * threads + thread for thread in range(threads)]
        return [core + thread * total for thread in range(threads)]

    return Shape(
        part(total),
        part(sockets),
        part(sockets * nodes * caches),
        dict(enumerate(part(sockets * nodes))),
    )


def _spaced(text: str) -> list[str]:
    return text.split()


SHAPES = {
    "laptop": regular(1, 1, 1, 4, 2, adjacent=True),
    "ryzen": regular(1, 1, 2, 8, 2),
    "threadripper": regular(1, 4, 2, 4, 2),
    "epyc": regular(2, 4, 4, 4, 2),
    "one CPU": Shape(["0"], ["0"], [], {0: "0"}),
    "four threads a core": regular(2, 1, 1, 8, 4),
    "no L3": Shape(["0-1", "2-3"], ["0-3"], [], {0: "0-3"}),
    "8 nodes of 2 cores": Shape(
        [str(cpu) for cpu in range(16)],
        [f"{cpu}-{cpu + 1}" for cpu in range(0, 16, 2)],
        [],
        {node: f"{node * 2}-{node * 2 + 1}" for node in range(8)},
    ),
    "CPUs offline": Shape(
        _spaced("0,8 1,9 3,11 4,12 6 7,15 10"),
        _spaced("0,4,8,12 1,9 3,7,11,15 6,10"),
        _spaced("0,4,8,12 1,9 3,7,11,15 6,10"),
        {0: "0-1,3-4,6-12,15"},
        offline="2,5,13-14",
    ),
    "hybrid": Shape(
        [*_spaced("0-1 2-3 4-5 6-7 8-9 10-11"), *map(str, range(12, 20))],
        ["0-19"],
        ["0-19"],
        {0: "0-19"},
        kinds={"cpu_core": "0-11", "cpu_atom": "12-19"},
    ),
    "2 sockets": Shape(
        [str(cpu) for cpu in range(16)],
        _spaced("0-7 8-15"),
        _spaced("0-7 8-15"),
        {0: "0-7", 1: "8-15"},
    ),
    "8 nodes of modules": Shape(
        [f"{cpu}-{cpu + 1}" for cpu in range(0, 64, 2)],
        _spaced("0-15 16-31 32-47 48-63"),
        [f"{cpu}-{cpu + 7}" for cpu in range(0, 64, 8)],
        {node: f"{node * 8}-{node * 8 + 7}" for node in range(8)},
    ),
    "GPUs as nodes": Shape(
        [f"{cpu}-{cpu + 3}" for cpu in (0, 4, 8, 12, 88, 92, 96, 100)],
        _spaced("0-15 88-103"),
        _spaced("0-7 8-15 88-95 96-103"),
        {0: "0-15", 8: "88-103", **dict.fromkeys(range(250, 256), "")},
    ),
}
"""The last six are captured."""
