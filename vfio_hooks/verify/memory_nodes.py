"""Where a VM's memory is, compared with where its vCPUs are."""

from collections.abc import Iterable, Mapping, Sequence

from vfio_hooks.domain import Domain
from vfio_hooks.host.cpu import Node
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.memory import amount

_STRAY, _UNEVEN = 0.05, 0.25
"""How much larger a node's part of the memory may be than its part of the vCPUs: for a node without
vCPUs, because QEMU's own code and heap are wherever it was started; for one with some, because few
VMs are spread evenly."""


def placed(found: Mapping[int, int]) -> str:
    """How much memory is on which node, in words; `found` is in KiB."""
    return ", ".join(f"{amount(size)} on node {node}" for node, size in sorted(found.items()))


def homes(vcpus: Iterable[CpuSet], where: Sequence[Node]) -> CpuSet:
    """The nodes that any of these vCPUs may be on."""
    return frozenset(_shares(vcpus, where))


def far(
    found: Mapping[int, int], domain: Domain, vcpus: Mapping[int, CpuSet], where: Sequence[Node]
) -> list[str]:
    """What is wrong, in words; `vcpus` are the CPUs of each pinned vCPU."""
    wrong = [
        f"guest node {cell} is on node {format_list(nodes)}, but its vCPUs are on "
        f"{format_list(near)}"
        for cell, nodes in sorted(domain.cell_nodes.items())
        if (near := homes(_of_cell(domain, cell, vcpus), where)) and not nodes <= near
    ]
    wanted, total = _wanted(domain, vcpus, where), sum(found.values())
    for node, size in sorted(found.items()):
        part = wanted.get(node, 0)
        if wanted and size / total - part > (_UNEVEN if part else _STRAY):
            told = "of it belongs there" if domain.cell_memory else "of the vCPUs"
            wrong.append(f"node {node} has {size / total:.0%} of the memory, and {part:.0%} {told}")
    return wrong


def _wanted(domain: Domain, vcpus: Mapping[int, CpuSet], where: Sequence[Node]) -> dict[int, float]:
    """The part of the memory that belongs on each node: that of a guest node belongs near its
    vCPUs."""
    wanted: dict[int, float] = {}
    cells = domain.cell_memory or {0: 1}
    for cell, memory in cells.items():
        for node, share in _shares(_of_cell(domain, cell, vcpus), where).items():
            wanted[node] = wanted.get(node, 0) + share * memory / sum(cells.values())
    return wanted


def _of_cell(domain: Domain, cell: int, vcpus: Mapping[int, CpuSet]) -> list[CpuSet]:
    """The CPUs of a guest node's vCPUs, or of all vCPUs if it has none of its own."""
    own = domain.cell_vcpus.get(cell, frozenset())
    return [cpus for vcpu, cpus in vcpus.items() if vcpu in own] or list(vcpus.values())


def _shares(vcpus: Iterable[CpuSet], where: Sequence[Node]) -> dict[int, float]:
    """For each node with any of these vCPUs, the part of them that is there."""
    every = list(vcpus)
    shares = {
        node.number: sum(len(cpus & node.cpus) / len(cpus) for cpus in every) / len(every)
        for node in where
        if every
    }
    return {node: share for node, share in shares.items() if share}
