"""Which NUMA node a VM goes to: where its graphics card is, and where its memory fits."""

from collections.abc import Sequence

from vfio_hooks.host.cpu import Node, Topology
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.memory import amount, fits
from vfio_hooks.placement.cores import count, within
from vfio_hooks.placement.wish import Wish


def choose(found: Topology, free: Sequence[CpuSet], wish: Wish, reasons: list[str]) -> list[Node]:
    """The one node from which cores are taken; several if none is big enough."""
    nodes = [node for node in found.nodes if node.cpus]
    home = next((node for node in found.nodes if node.number == wish.node), None)
    first = min(found.online)

    def far(node: Node) -> tuple[int, int]:
        return _lack(node, wish), home.distances.get(node.number, 255) if home else 0

    def preference(node: Node) -> tuple[tuple[int, int], bool, int, int]:
        room = count(within(free, node.cpus))
        # There is no device to be near: leave the first node, and large gaps, alone.
        return far(node), first in node.cpus, room, -node.number

    nodes.sort(key=preference)
    if len(nodes) == 1:
        return nodes
    for node in nodes:
        if count(within(free, node.cpus)) >= wish.vcpus:
            reasons.append(_why(node, home, wish))
            return [node]
    chosen: list[Node] = []
    nodes.sort(key=lambda node: (far(node), -count(within(free, node.cpus))))
    for node in nodes:
        if count([core for one in chosen for core in within(free, one.cpus)]) < wish.vcpus:
            chosen.append(node)
    numbers = format_list(node.number for node in chosen)
    reasons.append(
        f"no node has {wish.vcpus} free CPUs, so the vCPUs are on nodes {numbers}; fewer vCPUs "
        f"would be faster"
    )
    return chosen


def _lack(node: Node, wish: Wish) -> int:
    """How badly the VM's memory fits on a node: 0 if it fits, 1 if not, 2 if the node has none."""
    if not wish.memory or fits(wish.memory, [node]):
        return 0
    return 1 if node.memory else 2


def _why(node: Node, home: Node | None, wish: Wish) -> str:
    if home is None:
        return f"node {node.number} has room for all {wish.vcpus}"
    if home is node:
        return f"node {node.number} is where its {wish.device} is"
    if not home.cpus:
        return f"node {node.number} is nearest to its {wish.device}"
    what = f"{wish.vcpus} vCPUs"
    if _lack(home, wish) > _lack(node, wish):
        what = f"{amount(wish.memory)} of memory"
    return (
        f"its {wish.device} is at node {home.number}, which has no room for {what}; node "
        f"{node.number} is the nearest one that has"
    )
