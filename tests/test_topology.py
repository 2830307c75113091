"""The topology readers, on captured hosts, beside what lscpu reads from the same files."""

import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import Cache, Node, Topology, nearest_first, nodes, online, topology
from vfio_hooks.host.cpulist import CpuSet, format_list

pytestmark = pytest.mark.real_processes
HOSTS = Path(__file__).resolve().parents[2] / "shared/hosts"
Unpacked = Callable[[str], Path]


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Unpacked]:
    """Unpacks a captured host, and skips where there is none."""
    folder = tmp_path_factory.mktemp("hosts")

    def unpack(name: str) -> Path:
        archive = HOSTS / f"{name}.tar.bz2"
        if not archive.exists():
            pytest.skip(f"{archive}: the captured hosts are not part of the repository")
        target = folder / name
        if not target.exists():
            target.mkdir()
            argv = ["tar", "-xf", str(archive), "-C", str(target), "--strip-components=1"]
            subprocess.run(argv, check=True, timeout=60)
        return target

    yield unpack
    shutil.rmtree(folder)


def lists(shared: Sequence[CpuSet | Cache | Node]) -> list[str]:
    return [format_list(one if isinstance(one, frozenset) else one.cpus) for one in shared]


SEEN = {
    "16amd64-8n2c": ("0-15", "", 16, 8, 0, 8),
    "16em64t-4s2c2t-offlines": ("0-1,3-4,6-12,15", "2,5,13-14", 7, 4, 4, 1),
    "20em64t-hybrid-1p6c2t+2ca4co1t": ("0-19", "", 14, 1, 1, 1),
    "32em64t-2n8c+dax+nvme+mic+dimms": ("0-15", "", 16, 2, 2, 2),
    "64amd64-4s2n4ca2co": ("0-63", "", 32, 4, 8, 8),
    "nvidiagpunumanodes": ("0-15,88-103", "", 8, 2, 4, 8),
}
"""Online, offline; the numbers of cores, packages, L3 caches and nodes."""


@pytest.mark.parametrize("name", SEEN)
def test_counts_of_captured_hosts(name: str, captured: Unpacked) -> None:
    found = topology(Host(str(captured(name))))
    counts = len(found.cores), len(found.packages), len(found.l3), len(found.nodes)
    assert (format_list(found.online), format_list(found.offline), *counts) == SEEN[name]
    for groups in (found.cores, found.clusters, found.packages):
        assert frozenset().union(*groups) == found.online
        assert sum(map(len, groups)) == len(found.online)


def test_details_of_captured_hosts(captured: Unpacked) -> None:
    hybrid = topology(Host(str(captured("20em64t-hybrid-1p6c2t+2ca4co1t"))))
    kinds = {name: format_list(cpus) for name, cpus in hybrid.kinds.items()}
    assert kinds == {"performance": "0-11", "efficiency": "12-19"}
    assert lists(hybrid.clusters)[-3:] == ["10-11", "12-15", "16-19"]
    assert [cache.size for cache in hybrid.l3] == [24576]
    assert format_list(hybrid.siblings([3, 12])) == "2-3,12"

    offline = topology(Host(str(captured("16em64t-4s2c2t-offlines"))))
    assert lists(offline.cores) == ["0,8", "1,9", "3,11", "4,12", "6", "7,15", "10"]
    assert lists(offline.packages) == ["0,4,8,12", "1,9", "3,7,11,15", "6,10"]

    # Its shared_cpu_list says one CPU, its shared_cpu_map two; lscpu and hwloc say two.
    modules = topology(Host(str(captured("64amd64-4s2n4ca2co"))))
    assert lists(modules.clusters)[:2] == ["0-1", "2-3"]
    assert lists(modules.l3)[:2] == ["0-7", "8-15"]

    gpus = nodes(Host(str(captured("nvidiagpunumanodes"))))
    assert [node.number for node in gpus] == [0, 8, 250, 251, 252, 253, 254, 255]
    assert lists(gpus) == ["0-15", "88-103", *[""] * 6]
    assert gpus[2].memory == 15728640
    assert [format_list(cpus) for cpus in nearest_first([90], gpus)] == ["88-103", "0-15"]


@pytest.mark.parametrize("name", SEEN)
def test_lscpu_says_the_same(name: str, captured: Unpacked) -> None:
    lscpu = shutil.which("lscpu")
    if not lscpu:
        pytest.skip("lscpu is not installed")
    if "offlines" in name:
        pytest.skip("lscpu cannot read a host as old as this one")
    root = captured(name)
    columns = "--parse=CPU,CORE,SOCKET,NODE"
    done = subprocess.run(
        [lscpu, "-s", str(root), columns], capture_output=True, text=True, timeout=30, check=True
    )
    rows = [
        tuple(map(int, line.split(",")))
        for line in done.stdout.splitlines()
        if not line.startswith("#")
    ]
    assert {row[0]: row[1:] for row in rows} == _as_lscpu_numbers(topology(Host(str(root))))


def _as_lscpu_numbers(found: Topology) -> dict[int, tuple[int, ...]]:
    return {
        cpu: (
            next(number for number, core in enumerate(found.cores) if cpu in core),
            next(number for number, package in enumerate(found.packages) if cpu in package),
            next(node.number for node in found.nodes if cpu in node.cpus),
        )
        for cpu in found.online
    }


def test_a_kernel_without_numa_has_one_node() -> None:
    kernel = Kernel()
    kernel.files = {
        "/sys/devices/system/cpu/online": "0-1\n",
        "/sys/devices/system/cpu/present": "0-3\n",
        "/proc/meminfo": "MemTotal:        4096 kB\nMemFree: 1 kB\n",
    }
    found = topology(kernel)
    assert found.nodes == (Node(0, frozenset({0, 1}), 4096, {0: 10}),)
    assert found.offline == {2, 3}
    assert lists(found.cores) == lists(found.clusters) == ["0", "1"]


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ({"cpu_capacity": ("1024", "1009", "430", "430")}, ["0-1", "2-3"]),
        ({"cpu_capacity": ("1024", "1024", "1024", "1009")}, []),
        ({"cpu_capacity": ("1024", "768", "430", "250")}, ["0", "1", "2", "3"]),
        ({"cpufreq/base_frequency": ("1400000", "1400000", "1900000", "1900000")}, ["2-3", "0-1"]),
        ({"cpu_capacity": ("1024", "430")}, []),
    ],
)
def test_kinds_of_cores(files: dict[str, tuple[str, ...]], kinds: list[str]) -> None:
    kernel = Kernel()
    kernel.files["/sys/devices/system/cpu/online"] = "0-3\n"
    for file, values in files.items():
        for cpu, value in enumerate(values):
            kernel.files[f"/sys/devices/system/cpu/cpu{cpu}/{file}"] = value + "\n"
    assert [format_list(cpus) for cpus in topology(kernel).kinds.values()] == kinds


def test_the_pmus_tell_the_kinds() -> None:
    kernel = Kernel()
    kernel.files |= {
        "/sys/devices/system/cpu/online": "0-15\n",
        "/sys/devices/cpu_core/cpus": "0-7\n",
        "/sys/devices/cpu_atom/cpus": "8-15\n",
    }
    kinds = topology(kernel).kinds
    assert [(name, format_list(cpus)) for name, cpus in kinds.items()] == [
        ("performance", "0-7"),
        ("efficiency", "8-15"),
    ]


def test_no_cpu_at_all() -> None:
    with pytest.raises(HookError, match="has no CPU"):
        online(Kernel())
