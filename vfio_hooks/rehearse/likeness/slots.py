"""Where each function of a likeness sits, and how QEMU is told.

An IOMMU group is what can reach one another without the IOMMU. So each group has a slot of its own
on a root bus, and in it a root port for each of its cards; with more than one, the ports lack ACS,
which makes them and all behind them one group. A slot cannot be in two groups: a card whose
functions are in several is as many cards there. The firmware numbers buses in the order of the
ports.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from vfio_hooks.host.pci import card
from vfio_hooks.record import record
from vfio_hooks.rehearse.likeness.functions import Wanted

FIRST = 4
"""The slot of the first root port; those before it have the likeness' own devices: system disk,
network and the share with the program."""
_LAST = 30
_PORTS = 8
_NODE_BUS, _NODE_BUSES = 0x40, 0x20
"""The number of the first NUMA node's root bus, and how many buses a node has."""
_MOST_NODES = 6

_T = TypeVar("_T")


@record
class Placed:
    """A function, its address in the likeness, and the words that QEMU is given for it."""

    wanted: Wanted
    address: str
    words: tuple[str, ...]


@record
class Slots:
    """All that QEMU is given, the functions in their places, and those that have none."""

    words: tuple[str, ...]
    placed: tuple[Placed, ...]
    left_out: tuple[Wanted, ...]


def slots(functions: Sequence[Wanted], nodes: dict[int, int]) -> Slots:
    """Place functions. `nodes` has the number of each imitated NUMA node there; one node alone is
    not told apart."""
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
        # The likeness' own ports are before them.
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
    """What tells IOMMU groups apart; a function without one is alone."""
    return one.function.group or one.function.address


def _card(one: Wanted) -> str:
    """What tells cards apart; a PF's VFs are where other functions of its card would be."""
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
