"""Where each function of a likeness is, and the arguments with which QEMU gets it.

The devices of an IOMMU group can reach each other without the IOMMU. So each group has a slot of
its own on a root bus, with a root port for each of its cards. If there are several ports, they lack
ACS, which makes them and everything behind them one group. A slot cannot be in two groups, so a
card with functions in several groups becomes several cards. The firmware numbers buses in the order
of the ports.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from vfio_hooks.host.pci import card
from vfio_hooks.record import record
from vfio_hooks.rehearse.likeness.functions import Wanted

FIRST = 4
"""The slot of the first root port. The slots before it have the likeness's own devices: system
disk, network and the share with the program."""
_LAST = 30
_PORTS = 8
_NODE_BUS, _NODE_BUSES = 0x40, 0x20
"""The number of the first NUMA node's root bus, and how many buses a node has."""
_MOST_NODES = 6

_T = TypeVar("_T")


@record
class Placed:
    """A function, its address in the likeness, and QEMU's arguments for it."""

    wanted: Wanted
    address: str
    words: tuple[str, ...]


@record
class Slots:
    """All arguments for QEMU, the functions in their places, and those that have no place."""

    words: tuple[str, ...]
    placed: tuple[Placed, ...]
    left_out: tuple[Wanted, ...]


def slots(functions: Sequence[Wanted], nodes: dict[int, int]) -> Slots:
    """Place functions. `nodes` maps each imitated NUMA node to its number in the likeness; a single
    node is not mentioned to QEMU."""
    if not 1 < len(nodes) <= _MOST_NODES:
        return _filled(functions, "pcie.0", FIRST, 1)
    homes = _by(functions, lambda one: nodes.get(one.node or 0, 0))
    parts = []
    for at, (node, ours) in enumerate(sorted(homes.items())):
        bus = _NODE_BUS + node * _NODE_BUSES
        options = f"bus=pcie.0,addr={FIRST + at:#x},bus_nr={bus},numa_node={node}"
        root = Slots(("-device", f"pxb-pcie,id=node{node},{options}"), (), ())
        parts += [root, _filled(ours, f"node{node}", 1, bus + 1)]
    return Slots(
        tuple(word for part in parts for word in part.words),
        tuple(one for part in parts for one in part.placed),
        tuple(one for part in parts for one in part.left_out),
    )


def _filled(functions: Sequence[Wanted], root: str, slot: int, bus: int) -> Slots:
    """The functions on one root bus, from a slot on; the first port's bus has the number `bus`."""
    words: list[str] = []
    placed: list[Placed] = []
    left_out: list[Wanted] = []
    if root == "pcie.0":
        # The likeness's own ports are before them.
        bus += FIRST - 1
    for group in _by(functions, _group).values():
        cards = list(_by(group, _card).values())
        if slot > _LAST or len(cards) > _PORTS:
            left_out += group
            continue
        for number, ours in enumerate(cards):
            place = f"bus={root},addr={slot:#x}.{number}"
            options = f",multifunction=on,disable-acs=on,{place}" if cards[1:] else f",{place}"
            words += ["-device", f"pcie-root-port,id=port{bus},chassis={bus}{options}"]
            placed += _behind(ours, bus)
            bus += 1
        slot += 1
    words += [word for one in placed for word in one.words]
    return Slots(tuple(words), tuple(placed), tuple(left_out))


def _by(functions: Iterable[Wanted], key: Callable[[Wanted], _T]) -> dict[_T, list[Wanted]]:
    """The functions with the same key together, in their order."""
    found: dict[_T, list[Wanted]] = {}
    for one in functions:
        found.setdefault(key(one), []).append(one)
    return found


def _group(one: Wanted) -> str:
    """A key for IOMMU groups; a function without a group has a key of its own."""
    return one.function.group or one.function.address


def _card(one: Wanted) -> str:
    """A key for cards. A PF's VFs take the place of other functions of its card."""
    return one.function.address if one.vfs is not None else card(one.function.address)


def _behind(functions: Sequence[Wanted], bus: int) -> Iterator[Placed]:
    """A card's functions behind a port. There is always a function 0."""
    numbers = [int(one.function.address[-1]) for one in functions]
    if 0 not in numbers:
        numbers = list(range(len(functions)))
    for one, number in zip(functions, numbers, strict=True):
        place = f"bus=port{bus},addr=0.{number}"
        if functions[1:]:
            place += ",multifunction=on"
        words = tuple(_words(one, f"d{bus}f{number}", place, f"52:54:00:0a:{bus:02x}:0{number}"))
        yield Placed(one, f"0000:{bus:02x}:00.{number}", words)


def _words(one: Wanted, name: str, place: str, mac: str) -> Iterator[str]:
    model, _, options = one.model.partition(",")
    if model == "nvme":
        size = 256 << 20
        yield "-blockdev"
        yield f"null-co,node-name={name}-disk,size={size},read-zeroes=on"
        options = f"drive={name}-disk,serial={name}"
    elif model in ("e1000e", "igb"):
        options += f",mac={mac}"
    yield "-device"
    yield ",".join(filter(None, (model, f"id={name}", place, options)))
    if model == "ich9-intel-hda":
        yield from ("-device", f"hda-output,bus={name}.0,audiodev=silence")
