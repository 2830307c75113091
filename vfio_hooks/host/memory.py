"""Hugepage pools and what the memory of a NUMA node is used for.

https://docs.kernel.org/admin-guide/mm/hugetlbpage.html and Documentation/filesystems/proc.rst,
"meminfo". Sizes are in KiB, as the kernel's own are.
"""

from __future__ import annotations

import re

from vfio_hooks.host.cpu import NODES
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfio_hooks.host import Host
    from vfio_hooks.host.cpu import Node

POOLS = "/sys/kernel/mm/hugepages"
_USES = (
    ("AnonPages", "of programs"),
    ("FilePages", "page cache"),
    ("Cached", "page cache"),
    ("Slab", "the kernel's own"),
)


@record
class Pool:
    """The hugepages of one size on one node, or of a host without nodes.

    `path` is its nr_hugepages. `count` is how many pages were asked for and made. Surplus pages,
    which programs use beyond that and which vanish when they are freed, do not count.
    """

    path: str
    size: int
    count: int
    free: int

    @property
    def where(self) -> str:
        """ "node 0", or "this host" if memory is not divided into nodes."""
        node = node_of(self.path)
        return "this host" if node is None else f"node {node}"


def page_sizes(host: Host) -> tuple[int, ...]:
    """The sizes in KiB that hugepages can have, ascending."""
    names = (name.removeprefix("hugepages-").removesuffix("kB") for name in host.names(POOLS))
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def default_page_size(host: Host) -> int | None:
    """The size in KiB that is meant if none is named; None for a kernel without hugepages."""
    return _values(host.maybe("/proc/meminfo")).get("Hugepagesize")


def fits(size: int, homes: Iterable[Node]) -> bool:
    """Whether a VM's memory (KiB) fits on these nodes alone, with a tenth of them left to the host,
    or 1 GiB if that is more. Otherwise QEMU, bound to them, would run out of memory."""
    total = sum(node.memory for node in homes)
    return size + max(total // 10, 1 << 20) <= total


def pool(host: Host, node: int, size: int) -> Pool | None:
    """The hugepages of a size in KiB on a node; of the whole host if it has no nodes."""
    folder = f"{NODES}/node{node}/hugepages" if host.exists(NODES) else POOLS
    return pool_at(host, f"{folder}/hugepages-{size}kB/nr_hugepages")


def pool_at(host: Host, path: str) -> Pool | None:
    """The pool whose nr_hugepages is `path`, or None if there is none."""
    found, count = re.search(r"/hugepages-([0-9]+)kB/", path), host.maybe(path)
    if not found or not count:
        return None
    folder = path.rpartition("/")[0]
    # nr_hugepages shows surplus pages as well, but a number that is written does not count them.
    surplus, free = (
        int(host.maybe(f"{folder}/{name}_hugepages") or 0) for name in ("surplus", "free")
    )
    return Pool(path, int(found[1]), int(count) - surplus, free)


def node_of(path: str) -> int | None:
    """The node that a file of a node is about."""
    found = re.match(rf"{NODES}/node([0-9]+)/", path)
    return int(found[1]) if found else None


def in_hugepages(host: Host, node: int) -> int:
    """How much of a node's memory, in KiB, is in hugepages of any size."""
    pools = (pool(host, node, size) for size in page_sizes(host))
    return sum(one.count * one.size for one in pools if one)


def totals(host: Host) -> dict[str, int]:
    """The values of /proc/meminfo by name, such as "MemTotal", in KiB; hugepages are numbers."""
    return _values(host.maybe("/proc/meminfo"))


def use(host: Host, node: int | None) -> str:
    """What a node's memory (or all of a host's) is used for, in words, the largest part first."""
    text = host.maybe("/proc/meminfo" if node is None else f"{NODES}/node{node}/meminfo")
    values = _values(text)
    if "MemTotal" not in values:
        return "what its memory is used for cannot be read"
    parts = [(values[key], what) for key, what in _USES if key in values]
    parts.append((in_hugepages(host, node or 0), "hugepages"))
    told = ", ".join(f"{amount(size)} {what}" for size, what in sorted(parts, reverse=True) if size)
    return f"{amount(values.get('MemFree', 0))} of {amount(values['MemTotal'])} are free, {told}"


def amount(kibibytes: int) -> str:
    """A size in KiB, for people: "2 MiB", "1.5 GiB"."""
    for unit, size in (("GiB", 1 << 20), ("MiB", 1 << 10)):
        if kibibytes >= size:
            return f"{round(kibibytes / size, 1):g} {unit}"
    return f"{kibibytes} KiB"


def _values(meminfo: str | None) -> dict[str, int]:
    lines = re.findall(r"^(?:Node \d+ )?(\w+): +(\d+)", meminfo or "", re.MULTILINE)
    return {name: int(number) for name, number in lines}
