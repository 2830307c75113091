"""What is told of a VM that is far from its devices: one thing, and what can be done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.defects import GOOD, PINS_OF_TWO_NODES, Edits, edited, write
from tests.hosttree import add_cpus, add_pci, guides_host
from vfio_hooks.check import examine
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import element
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import topology
from vfio_hooks.host.cpulist import parse_list
from vfio_hooks.paths import Paths
from vfio_hooks.placement import faults, room
from vfio_hooks.placement.choice import Placement

AREAS: tuple[Area, ...] = ("domain",)
CARD = "0000:45:00.0"
LOOSE: Edits = ((r"/<numatune>(?s:.)*?</numatune>/", ""),)
OTHER: Edits = (("nodeset='1'", "nodeset='0'"),)
MORE: Edits = (
    (
        "<memballoon",
        "<hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0x0000' "
        "bus='0x0c' slot='0x00' function='0x0'/></source></hostdev>\n    <memballoon",
    ),
)
MOVE = "sudo vfio-hooks init good --pins"


def node_of(address: str, node: int) -> Callable[[Path], object]:
    return write(f"sys/bus/pci/devices/{address}/numa_node", str(node))


def second(kind: str) -> Callable[[Path], object]:
    """Another device, at node 0."""

    def add(root: Path) -> None:
        add_pci(root, "0000:0c:00.0", "vfio-pci", "12", kind, "10de:2204")
        node_of("0000:0c:00.0", 0)(root)

    return add


def small(node: int) -> Callable[[Path], object]:
    """A node with less memory than the guest needs."""
    return write(f"sys/devices/system/node/node{node}/meminfo", f"Node {node} MemTotal: 4194304 kB")


def found(name: str, xml: str, root: Path) -> list[str]:
    """The texts of a kind of fault."""
    seen = room(Host(str(root)), topology(Host(str(root))), parse(xml.encode()))
    return [one.text for one in faults(seen) if one.name == name]


@pytest.mark.parametrize(
    ("changes", "edits", "expected"),
    [
        # The vCPUs go to the card, and the memory with them.
        ((node_of(CARD, 0),), (), {"node-device": MOVE}),
        ((node_of(CARD, 0),), LOOSE, {"node-device": MOVE}),
        ((node_of(CARD, 0),), OTHER, {"node-device": MOVE}),
        ((), OTHER, {"node-memory": "nodeset='1'"}),
        # There is no room for them at the card's node: the card has to go.
        ((node_of(CARD, 0), small(0)), (), {"node-device": "put it into a slot"}),
        (
            (node_of(CARD, 0), small(0)),
            LOOSE,
            {"node-device": "put it into a slot", "node-memory": "nodeset='1'"},
        ),
        # One of two cards is near, which is as near as one node can be.
        ((second("0x030000"),), MORE, {}),
        ((second("0x010802"),), MORE, {"node-device": "put it into a slot"}),
        ((second("0x010802"), node_of(CARD, 0)), MORE, {"node-device": MOVE}),
        # The vCPUs are on both nodes, which is told first.
        ((node_of(CARD, 0),), PINS_OF_TWO_NODES, {}),
        ((node_of(CARD, 2),), PINS_OF_TWO_NODES, {}),
    ],
)
def test_where_to_is_told_once(
    changes: tuple[Callable[[Path], object], ...],
    edits: Edits,
    expected: dict[str, str],
    tmp_path: Path,
) -> None:
    for change in (guides_host, *changes):
        change(tmp_path)
    xml = edited(edits, GOOD).encode()
    patient = Patient(
        Host(str(tmp_path)), Paths(config=str(tmp_path)), Guest(parse(xml), element(xml))
    )
    names = ("node-device", "node-memory")
    advice = {
        one.rule.name: one.seen.advice
        for one in examine(patient, areas=AREAS)
        if one.rule.name in names
    }
    assert advice.keys() == expected.keys()
    assert all(part in advice[name] for name, part in expected.items()), advice


@pytest.mark.parametrize(
    ("pins", "told"),
    [
        # Both dies; the large one with the host's first core; as much of it as there is.
        ("1-7 9-15", "14 would fit on the larger L3 cache (96 MiB), from which games gain more"),
        ("0-7", "from which games gain more, and leave CPU 0 to the host"),
        ("1-7", ""),
    ],
)
def test_the_smaller_vm_that_fits_the_large_cache(pins: str, told: str, tmp_path: Path) -> None:
    """On an X3D."""
    add_cpus(tmp_path, nodes=1, cores=16, per_l3=8)
    for cpu in (*range(8), *range(16, 24)):
        write(f"sys/devices/system/cpu/cpu{cpu}/cache/index3/size", "98304K")(tmp_path)
    add_pci(tmp_path, CARD, "vfio-pci", "45")
    cores = [core for part in pins.split() for core in sorted(parse_list(part))]
    cpus = [cpu for core in cores for cpu in (core, core + 16)]
    each = "".join(f"<vcpupin vcpu='{at}' cpuset='{cpu}'/>" for at, cpu in enumerate(cpus))
    tune = (r"/<vcpupin(?s:.)*<vcpupin[^>]*>/", f"{each}\n"), (">8</vcpu>", f">{len(cpus)}</vcpu>")
    shape = ("cores='4' threads='2'", f"cores='{len(cores)}' threads='2'")
    texts = found("node-vcpus", edited((*LOOSE, *tune, shape)), tmp_path)
    assert (len(texts), all(told in text for text in texts)) == (bool(told), True)


def test_slow_cores_alone(tmp_path: Path) -> None:
    guides_host(tmp_path)
    for fast, slow, told in (
        ("0-7,12-23,28-31", "8-11,24-27", True),
        ("8-15,24-31", "0-7,16-23", False),
    ):
        write("sys/devices/cpu_core/cpus", fast)(tmp_path)
        write("sys/devices/cpu_atom/cpus", slow)(tmp_path)
        text = "the vCPUs are pinned to efficiency cores, but would fit on performance cores"
        assert found("node-kinds", GOOD, tmp_path) == [text] * told


def test_the_smaller_vm_that_fits_the_cards_node(tmp_path: Path) -> None:
    """Which is none that is nearly as large, but for the memory."""
    guides_host(tmp_path)
    node_of(CARD, 0)(tmp_path)
    told = "the guest has 16 vCPUs; 14 would fit on node 0, where its graphics card is"
    pins = "".join(f"<vcpupin vcpu='{cpu}' cpuset='{cpu % 16}'/>" for cpu in range(16))
    tune = (r"/<vcpupin(?s:.)*<vcpupin[^>]*>/", f"{pins}\n"), (">8</vcpu>", ">16</vcpu>")
    assert found("node-vcpus", edited(tune), tmp_path) == [told]
    small(0)(tmp_path)
    assert found("node-vcpus", GOOD, tmp_path) == []


def test_a_disk_controller_is_no_graphics_card(tmp_path: Path) -> None:
    guides_host(tmp_path)
    write(f"sys/bus/pci/devices/{CARD}/class", "0x010700")(tmp_path)
    seen = room(Host(str(tmp_path)), topology(Host(str(tmp_path))), parse(GOOD.encode()))
    assert isinstance(seen.best, Placement)
    assert "node 1 is where its device is" in seen.best.reasons
