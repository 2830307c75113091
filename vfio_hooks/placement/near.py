"""What is far from what: NUMA nodes, level 3 caches and kinds of cores."""

from collections.abc import Iterator

from vfio_hooks.domain.editing import Edit
from vfio_hooks.host.cpu import Cache, Node
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.memory import amount, fits
from vfio_hooks.placement.choice import Placement
from vfio_hooks.placement.kinds import Fault
from vfio_hooks.placement.room import Room
from vfio_hooks.plural import counted, numbered


def _is_torn(room: Room) -> bool:
    """Whether a guest that sees one node is on several: nothing else matters as much. A guest with
    a single cell sees the same as one without cells."""
    return len(room.homes) > 1 and len(room.vm.cell_memory) < 2


def nodes(room: Room) -> Iterator[Fault]:
    if not _is_torn(room):
        return
    better = [node for node in room.host.nodes if node.cpus & room.better]
    yield Fault(
        "node-pins",
        f"the vCPUs are pinned to CPUs of {_numbers(room.homes)}, but the guest sees one",
        room.advice
        if len(better) == 1
        else "show the guest its nodes: <cpu><numa><cell …/></numa></cpu>, and each cell's "
        "memory in <numatune><memnode …/></numatune>",
        cpus=room.own,
    )


def memory(room: Room) -> Iterator[Fault]:
    vm, homes = room.vm, room.homes
    # A guest with nodes of its own has a place for each of them.
    if len([node for node in room.host.nodes if node.memory]) < 2 or not homes:
        return
    # If the vCPUs should move, the memory moves with them.
    if vm.cell_nodes or len(vm.cell_memory) > 1 or _is_torn(room) or _can_move(room):
        return
    wanted = frozenset(node.number for node in homes)
    if vm.numa_nodes is not None and vm.numa_nodes <= wanted:
        return
    text = "is not bound to a NUMA node"
    if vm.numa_nodes is not None:
        text = f"is on {numbered('node', vm.numa_nodes)}"
    text = f"the memory {text}, but the vCPUs are pinned to CPUs of {numbered('node', wanted)}"
    if fits(vm.memory, homes):
        # "auto" placement asks numad, and goes with no nodeset.
        place = {"mode": "strict", "nodeset": format_list(wanted), "placement": None}
        yield Fault("node-memory", text, edits=(Edit("numatune/memory", place),))
        return
    total = amount(sum(node.memory for node in homes))
    yield Fault(
        "node-memory",
        text,
        f"give the guest less memory than its {amount(vm.memory)}: there are {total} in all, and "
        f"the host needs some of them",
    )


def devices(room: Room) -> Iterator[Fault]:
    far, homes = _far(room), frozenset(node.number for node in room.homes)
    if not far or _is_torn(room):
        return
    first = next((one for one in far if room.devices[one].is_display), next(iter(far)))
    node = far[first]
    others = f" and {len(far) - 1} more" if len(far) > 1 else ""
    what = "them" if others else "it"
    move = f"put {what} into a slot of the processor of {numbered('node', homes)}"
    yield Fault(
        "node-device",
        f"{room.devices[first].kind} {first}{others} is at node {node}, but the vCPUs are "
        f"pinned to CPUs of {numbered('node', homes)}",
        room.advice if _can_move(room) else move,
        devices=tuple(far),
    )


def _far(room: Room) -> dict[str, int]:
    """The nodes of the cards and disks that are on another node than the vCPUs. One of several
    graphics cards is enough to be near: the others may be far on purpose."""
    homes = {node.number for node in room.homes}
    known = {node.number for node in room.host.nodes if node.cpus}
    at = {
        address: one.node
        for address, one in room.devices.items()
        if one.node in known and address.endswith(".0")
    }
    cards = [address for address in at if room.devices[address].is_display]
    is_near = any(at[card] in homes for card in cards)
    return {
        address: node
        for address, node in at.items()
        if homes and node not in homes and not (is_near and address in cards)
    }


def _can_move(room: Room) -> bool:
    """Whether `init --pins` moves the vCPUs to the node of the device that matters most."""
    best, main = room.best, room.main
    return (
        bool(_far(room))
        and main is not None
        and isinstance(best, Placement)
        and main.node in best.nodes
        and main.node not in {node.number for node in room.homes}
    )


def caches(room: Room) -> Iterator[Fault]:
    used, better = _caches(room, room.own), _caches(room, room.better)
    if not better or not used or len(room.single) < len(room.pins) or _is_torn(room):
        return
    # The vCPUs of a guest with several nodes are apart on purpose.
    if len(room.vm.cell_memory) > 1:
        return
    if len(used) > len(better):
        shown = " and ".join(format_list(cache.cpus & room.own) for cache in used)
        many = len(better) > 1
        yield Fault(
            "node-cache",
            f"the vCPUs are split between {len(used)} L3 caches ({shown}), but would fit on "
            f"{len(better) if many else 'one'}",
            room.advice,
            cpus=room.own,
        )
    elif len(used) == len(better) == 1 and used[0].is_dwarfed(better[0].size):
        yield Fault(
            "node-cache",
            f"the vCPUs are on an L3 cache of {amount(used[0].size)}, but would fit on one of "
            f"{amount(better[0].size)}",
            room.advice,
            cpus=room.own,
        )


def _caches(room: Room, cpus: CpuSet) -> list[Cache]:
    return [cache for cache in room.host.l3 if cache.cpus & cpus]


def kinds(room: Room) -> Iterator[Fault]:
    used = {name: cpus & room.own for name, cpus in room.host.kinds.items() if cpus & room.own}
    fastest = next(iter(room.host.kinds), "")
    better = [name for name, cpus in room.host.kinds.items() if cpus & room.better]
    if len(used) > 1 and len(better) == 1:
        shown = ", ".join(f"{name}: {format_list(cpus)}" for name, cpus in used.items())
        yield Fault(
            "node-kinds",
            f"the vCPUs are pinned to cores of {len(used)} kinds ({shown})",
            room.advice,
            cpus=room.own - next(iter(used.values())),
        )
    elif room.is_tuned and used and fastest not in used and better == [fastest]:
        yield Fault(
            "node-kinds",
            f"the vCPUs are pinned to {next(iter(used))} cores, but would fit on {fastest} cores",
            room.advice,
            cpus=room.own,
        )


def fewer(room: Room) -> Iterator[Fault]:
    """What fewer vCPUs would gain, if at least half of them would remain."""
    if not isinstance(room.best, Placement) or not room.is_tuned or not room.own:
        return
    has, first = len(room.vcpus), min(room.host.online)
    for one in room.best.fewer:
        is_there = room.own <= one.cpus
        if (first in room.own or not is_there) and has <= one.vcpus * 2:
            cores = one.vcpus // one.threads
            shape = f"sockets='1' cores='{cores}' threads='{one.threads}'"
            beside = f", and leave CPU {first} to the host" if is_there else ""
            yield Fault(
                "node-vcpus",
                f"the guest has {counted(has, 'vCPU')}; {one.vcpus} would fit on {one.what}"
                f"{beside}",
                f"if its programs gain from that: <vcpu>{one.vcpus}</vcpu> and <topology {shape}/>"
                f", then {room.init}",
            )


def _numbers(nodes: tuple[Node, ...]) -> str:
    return numbered("node", frozenset(node.number for node in nodes))


RULES = (nodes, memory, devices, kinds, caches, fewer)
