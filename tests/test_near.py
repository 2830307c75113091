"""What is told of a VM that is far from its devices: one thing, and what can be done."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.defects import GOOD, Edits, edited, write
from tests.hosttree import add_pci, guides_host
from vfio_hooks.check import examine
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import element
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths

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
    found = {
        one.rule.name: one.seen.advice
        for one in examine(patient, areas=AREAS)
        if one.rule.name in names
    }
    assert found.keys() == expected.keys()
    assert all(part in found[name] for name, part in expected.items()), found
