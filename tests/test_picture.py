"""The picture of a host: every shape is drawn, and what is wrong is marked where it is."""

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.defects import GOOD, link
from tests.fakes.kernel import Kernel
from tests.hosttree import guides_host
from tests.shapes import SHAPES, Shape
from vfio_hooks.check import examine
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.domain import Domain, PciFunction, parse
from vfio_hooks.domain.text import element
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.paths import Paths
from vfio_hooks.picture import svg, text
from vfio_hooks.picture.scene import Scene, scene
from vfio_hooks.record import replace

GPU = "0000:41:00.0"
PINNED = (
    "<domain type='kvm'><name>a</name><uuid>b</uuid><vcpu>{}</vcpu><cputune>{}</cputune></domain>"
)
AREAS: tuple[Area, ...] = ("domain",)
DEVICES = "/sys/bus/pci/devices"


def kernel(shape: Shape) -> Kernel:
    found = Kernel()
    found.files = shape.files()
    return found


def vm(name: str, pins: str, threads: int = 1, gpu: bool = False, emulator: str = "0") -> Domain:
    """A domain whose vCPUs are pinned to these CPUs, separated by blanks."""
    sets = dict(enumerate(map(parse_list, pins.split())))
    return Domain(
        name,
        name,
        vcpus=len(sets),
        vcpu_pins=sets,
        emulator_pin=parse_list(emulator) if emulator else None,
        pci=(PciFunction(GPU, True, "hostdev"),) if gpu else (),
        threads=threads,
    )


def near(domain: Domain) -> Domain:
    """The same, with its memory where its vCPUs are."""
    return replace(domain, numa_nodes=frozenset({0}))


def plain(drawn: Scene) -> list[str]:
    return list(text.draw(drawn, lambda word, style: word))


def found(shape: str, *domains: Domain, node: int = 0) -> list[tuple[str, str]]:
    """Level and text of the problems that VMs have, which all run, on a host with one GPU."""
    host = kernel(SHAPES[shape])
    host.add_pci(GPU, "vfio-pci", "19")
    host.files[f"{DEVICES}/{GPU}/numa_node"] = f"{node}\n"
    drawn = scene(host, [(domain, True) for domain in domains])
    return [(one.level, one.text) for one in drawn.problems]


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_is_drawn(name: str) -> None:
    shape = SHAPES[name]
    drawn = scene(kernel(shape), [(vm("win11", "0 1,2"), False)])
    lines = plain(drawn)
    assert max(map(len, lines)) <= text.WIDTH
    numbers = set(map(int, re.findall(r"\d+", " ".join(lines))))
    many = sum(map(len, shape.core_sets)) > 40
    assert many or frozenset[int]().union(*shape.core_sets) <= numbers
    root = ElementTree.fromstring(svg.draw(drawn))
    cells = list(root.iter("{http://www.w3.org/2000/svg}title"))
    assert len(cells) == sum(map(len, shape.core_sets))


def test_sockets_nodes_and_caches_are_where_they_are() -> None:
    drawn = scene(kernel(SHAPES["epyc"]), [])
    nodes = [[node.number for node in socket.nodes] for socket in drawn.sockets]
    assert nodes == [[0, 1, 2, 3], [4, 5, 6, 7]]
    group = drawn.sockets[1].nodes[0].groups[1]
    assert [cpu.number for cpu in group.cores[0]] == [68, 196]
    assert [node.number for node in scene(kernel(SHAPES["GPUs as nodes"]), []).elsewhere] == [
        *range(250, 256)
    ]
    kinds = [group.kind for group in scene(kernel(SHAPES["hybrid"]), []).sockets[0].nodes[0].groups]
    assert kinds == ["performance", "efficiency"]


def test_seats_and_marks_are_below_their_cpus() -> None:
    host = kernel(SHAPES["laptop"])
    host.files["/proc/interrupts"] = "      CPU0 CPU2\n 24:   30   10  PCI-MSI  nvme0\n"
    lines = plain(scene(host, [(vm("win11", "2 3 4", threads=2, emulator="0"), True)]))
    row = next(number for number, line in enumerate(lines) if "CPU   │" in line)
    cells = [[part.split() for part in line.split("│")[1:-1]] for line in lines[row : row + 4]]
    assert cells == [
        [["0", "1"], ["2", "3"], ["4", "5"], ["6", "7"]],
        [["Ae", "·"], ["A0", "A1"], ["A2", "·"], ["·", "·"]],
        [["75%"], ["25%"], [], []],
        [[], [], ["!1", "!1"], []],
    ]


def test_a_large_host_is_folded_where_no_vm_is() -> None:
    pins = " ".join(f"{core} {core + 128}" for core in range(16, 32))
    lines = plain(scene(kernel(SHAPES["epyc"]), [(vm("win11", pins, 2, emulator=""), True)]))
    assert len(lines) < 60
    assert any("nodes 5-7" in line or "nodes 4-7" in line or "nodes 3-" in line for line in lines)
    assert sum("A" in line and "│" in line for line in lines) == 4


@pytest.mark.parametrize(
    ("shape", "domains", "node", "expected"),
    [
        ("laptop", [vm("a", "2 3", 2)], 0, []),
        (
            "laptop",
            [vm("a", "2 4")],
            0,
            ["wrong a: the vCPUs have CPUs 2,4 but not their SMT sibl"],
        ),
        ("laptop", [vm("a", "2 4 3 5", 2)], 0, ["wrong a: vCPUs 0-1 are one core's threads"]),
        ("laptop", [vm("a", "2-3 2-3", 2)], 0, ["note a: vCPUs 0-1 may each use several CPUs"]),
        (
            "laptop",
            [vm("a", "0 1 2 3 4 5 6 7", 2)],
            0,
            ["wrong a: the vCPUs are pinned to all CPUs"],
        ),
        # A pin to every CPU is none, which matters to a VM that is given devices.
        ("laptop", [vm("a", "0-7")], 0, []),
        ("laptop", [vm("a", "0-7", gpu=True)], 0, ["wrong a: the vCPUs are pinned to every CPU"]),
        ("laptop", [vm("a", "")], 0, []),
        ("laptop", [vm("a", "", gpu=True)], 0, ["wrong a: no vCPU is pinned"]),
        ("laptop", [vm("a", "2 3", 2, emulator="2-3")], 0, ["wrong a: the emulator's threads and"]),
        ("laptop", [vm("a", "2 3", 2, emulator="")], 0, ["wrong a: the emulator's threads are no"]),
        (
            "2 sockets",
            [vm("a", "4 4")],
            0,
            ["wrong a: several", "wrong a: the mem"],
        ),
        ("2 sockets", [vm("a", "7 8")], 0, ["wrong a: the vCPUs are pinned to CPUs of nodes 0-1"]),
        ("2 sockets", [near(vm("a", "7", gpu=True))], 0, []),
        (
            "2 sockets",
            [near(vm("a", "7", gpu=True))],
            1,
            ["wrong a: VGA 0000:41:00.0 is at node"],
        ),
        ("2 sockets", [near(vm("a", "16"))], 0, ["wrong a: CPU 16 is not running on this host"]),
        (
            "2 sockets",
            [near(vm("a", "6")), near(vm("b", "6"))],
            0,
            ["wrong a: its vCPUs share CPU 6 with the vCPUs of b"],
        ),
        # They run one after the other.
        ("2 sockets", [near(vm("a", "6", gpu=True)), near(vm("b", "5", gpu=True))], 0, []),
        (
            "ryzen",
            [vm("a", "7 23 8 24", 2)],
            0,
            ["note a: the vCPUs are split between 2 L3 caches (7,23 and 8,24), but would fit on o"],
        ),
        ("epyc", [near(vm("a", "4 132 5 133", 2))], 0, []),
        ("ryzen", [vm("a", "0 16 1 17", 2, emulator="8")], 0, ["note a: vCPU 0 may use CPU 0"]),
        ("hybrid", [vm("a", "2 3", 2)], 0, []),
        (
            "hybrid",
            [vm("a", "2 3 12 13")],
            0,
            ["wrong a: the vCPUs are pinned to cores of 2"],
        ),
        ("CPUs offline", [near(vm("a", "5"))], 0, ["wrong a: CPU 5 is not running on this host"]),
    ],
)
def test_what_is_wrong(
    shape: str, domains: Sequence[Domain], node: int, expected: Sequence[str]
) -> None:
    told = [f"{level} {line}" for level, line in found(shape, *domains, node=node)]
    assert len(told) == len(expected), told
    for line, start in zip(told, expected, strict=True):
        assert line.startswith(start)


@pytest.mark.parametrize(
    ("shape", "pins", "threads", "name", "marked"),
    [
        # Both vCPUs of a pair that is none are wrong.
        ("laptop", "2 4 3 5", 2, "one core's threads", "2-5"),
        # The slower kind, however many are of it.
        ("hybrid", "2 3 4 5 12 13 14 15", 1, "kinds", "12-15"),
        ("hybrid", "2 3 12 13 14 15", 1, "kinds", "12-15"),
    ],
)
def test_what_is_marked(shape: str, pins: str, threads: int, name: str, marked: str) -> None:
    drawn = scene(kernel(SHAPES[shape]), [(vm("a", pins, threads), True)])
    (problem,) = [one for one in drawn.problems if name in one.text]
    assert format_list(problem.cpus) == marked


@pytest.mark.parametrize("shape", ["ryzen", "epyc", "hybrid", "no L3", "2 sockets"])
def test_the_picture_and_check_say_the_same(shape: str, tmp_path: Path) -> None:
    SHAPES[shape].write(tmp_path)
    host = Host(str(tmp_path))
    for count in range(1, 8):
        pins = "".join(map("<vcpupin vcpu='{0}' cpuset='{0}'/>".format, range(count)))
        xml = PINNED.format(count, pins)
        domain = parse(xml.encode())
        drawn = [one.text for one in scene(host, [(domain, True)]).problems]
        patient = Patient(host, Paths(), Guest(domain, element(xml.encode())))
        found = [one.seen.text for one in examine(patient, areas=AREAS)]
        assert [text.removeprefix("a: ") for text in drawn] == [
            one for one in found if one in {fault.text for fault in patient.faults}
        ]
        assert len(drawn) == len(patient.faults)


@pytest.mark.parametrize(
    ("width", "port", "told"),
    [
        (8, 16, ["VGA 0000:45:00.0 has 8 of 16 lanes"]),
        (16, 16, []),
        (8, 8, []),
        (4, 8, ["VGA 0000:45:00.0 has 4 of 8 lanes"]),
    ],
)
def test_missing_lanes_are_marked(tmp_path: Path, width: int, port: int, told: list[str]) -> None:
    root = guides_host(tmp_path)
    link(width, 16.0, port)(root)
    domain = parse(GOOD.encode())
    drawn = scene(Host(str(root)), [(domain, False)])
    found = [one for one in drawn.problems if "lanes" in one.text]
    assert [one.text for one in found] == [f"{domain.name}: {text}" for text in told]
    assert all(one.level == "wrong" and one.devices == ("0000:45:00.0",) for one in found)


def test_devices_stand_at_their_node_with_link_group_and_owner() -> None:
    host = kernel(SHAPES["2 sockets"])
    host.add_pci(GPU, "vfio-pci", "19")
    host.add_pci("0000:03:00.0", "amdgpu", "7")
    host.add_pci("0000:05:00.0", "nvme", "8", "0x010802")
    folder = f"{DEVICES}/{GPU}"
    host.files |= {
        f"{folder}/numa_node": "1\n",
        f"{folder}/current_link_speed": "16.0 GT/s PCIe\n",
        f"{folder}/current_link_width": "8\n",
        f"{folder}/max_link_speed": "16.0 GT/s PCIe\n",
        f"{folder}/max_link_width": "16\n",
    }
    drawn = scene(host, [(vm("win11", "8", gpu=True), True)])
    assert [one.address for one in drawn.sockets[1].nodes[0].devices] == [GPU]
    assert [one.address for one in drawn.homeless] == ["0000:03:00.0"]
    (line,) = [line for line in plain(drawn) if GPU in line]
    assert "group 19, 16 GT/s x8 of x16, for A" in line
    assert "for win11" in svg.draw(drawn)


def test_an_svg_names_every_vm_of_a_device() -> None:
    host = kernel(SHAPES["2 sockets"])
    host.add_pci(GPU, "vfio-pci", "19")
    domains = [(vm(name, "", gpu=True), False) for name in ("B-side", "for A", "c")]
    assert "for B-side+for A+c" in svg.draw(scene(host, domains))


def test_cpu_0_is_not_given_up_for_a_small_cache() -> None:
    whole = " ".join(f"{cpu} {cpu + 16}" for cpu in range(8))
    for size, told in (("32768K", 1), ("98304K", 0)):
        host = kernel(SHAPES["ryzen"])
        for cpu in parse_list("0-7,16-23"):
            host.files[f"/sys/devices/system/cpu/cpu{cpu}/cache/index3/size"] = size
        drawn = scene(host, [(vm("a", whole, 2, emulator="8"), True)])
        assert len([one for one in drawn.problems if "CPU 0" in one.text]) == told


def test_two_running_vms_in_one_place_are_wrong_and_defined_ones_a_note() -> None:
    one, other = near(vm("a", "6")), near(vm("b", "6"))
    host = kernel(SHAPES["2 sockets"])
    for running, level in ((True, "wrong"), (False, "note")):
        (problem,) = scene(host, [(one, True), (other, running)]).problems
        assert (problem.level, problem.cpus) == (level, frozenset({6}))


def test_an_svg_is_self_contained_whatever_names_say() -> None:
    drawn = scene(kernel(SHAPES["laptop"]), [(vm("<a&b>\x1b[31m", "2 3"), True)])
    whole = svg.draw(drawn)
    ElementTree.fromstring(whole)
    assert not re.search(r"<script|<image|href=|url\(|@import|\x1b", whole)


@pytest.mark.parametrize(
    "files",
    [
        {"/sys/devices/system/cpu/online": "0-1"},
        {"/sys/devices/system/cpu/online": "0-1", "/proc/interrupts": ""},
        {"/sys/devices/system/cpu/online": "0-1", "/proc/interrupts": "CPU0 CPUx\n 1: a b c\n"},
        {"/sys/devices/system/cpu/online": "0-1", f"{DEVICES}/{GPU}/class": "0x030000"},
        {f"{DEVICES}/{GPU}/numa_node": "x", "/sys/devices/system/cpu/online": "0"},
    ],
)
def test_a_host_with_files_missing_is_drawn(files: dict[str, str]) -> None:
    host = Kernel()
    host.files = files
    assert plain(scene(host, []))


GARBLED = st.sampled_from(["", "?", "x-y", "-1", "0-", "\x00\x01", "99999999999", "ff"])


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(SHAPES["laptop"].files())), GARBLED, max_size=4))
def test_garbled_files_are_a_picture_or_a_clear_error(garbled: dict[str, str]) -> None:
    host = kernel(SHAPES["laptop"])
    host.files |= garbled
    try:
        assert plain(scene(host, [(vm("win11", "2 3"), True)]))
    except HookError as error:
        assert any(name in error.problem for name in ("/sys/", "CPU"))


SETS = st.sets(st.integers(0, 20), min_size=1, max_size=4).map(frozenset)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.integers(0, 8), SETS, max_size=6), max_size=4))
def test_any_pins_are_drawn_within_the_width(pins: list[dict[int, CpuSet]]) -> None:
    domains = [
        (Domain(f"vm{number}", str(number), vcpus=len(one), vcpu_pins=one), True)
        for number, one in enumerate(pins)
    ]
    drawn = scene(kernel(SHAPES["hybrid"]), domains)
    assert all(len(line) <= text.WIDTH for line in plain(drawn))
    ElementTree.fromstring(svg.draw(drawn))
