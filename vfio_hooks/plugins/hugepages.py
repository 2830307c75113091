"""The hugepages of the VM's memory: added before it starts, and removed when it has ended.

The domain says how many pages there are, of which size and on which NUMA nodes of the host: by its
memory or that of its NUMA cells and memory devices, by <memoryBacking><hugepages>, and by
<numatune>. If <numatune> names no nodes, the pages are put where the pinned CPUs are; without pins,
on all nodes. Several nodes share them evenly. The pages are added to those that exist already, for
other VMs or in a static pool, and exactly as many are removed again. So it does not matter which
VMs start or end in between.

Free memory is rarely in one piece. If the kernel does not find all pages at once, caches are
dropped, memory is compacted, and the search goes on until `timeout`. If that does not help, the
start fails, says what the memory is used for, and gives back what it took. Pages of 1 GiB are
usually available only soon after boot. A host that needs them reserves them on the kernel's command
line, and sets `reuse`.
"""

from collections.abc import Iterator

from vfio_hooks.domain import Domain, HugePages
from vfio_hooks.domain.devices import MemoryDevice
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host import memory as host_memory
from vfio_hooks.host.cpu import NODES, Node, nodes
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.host.memory import Pool, amount, pool
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.record import record
from vfio_hooks.sharing import Add
from vfio_hooks.steps import Step

_SMALL = 4
"""KiB of an ordinary page, which the XML may ask for in a part of the memory."""
_SAID = (
    "<memory> in the VM's XML says how many pages there are, and <hugepages> in "
    "<memoryBacking> how large they are"
)
INSTEAD = dict.fromkeys(("pages", "nr_hugepages", "count", "size", "pagesize", "memory"), _SAID)


@record
class Options:
    nodes: str | None = None
    """The NUMA nodes of the host to take the pages from, such as "0" or "0-1". It takes precedence
    over what the domain says."""
    reuse: bool = False
    """Whether pages that are already free count as the VM's, so that only the missing ones are
    added. This is for a pool that was reserved at boot. Such pages belong to whoever takes them
    first, so only VMs that are not started at the same moment should share such a pool."""
    timeout: float = 20.0
    """How many seconds to look for pages on each node."""

    def __post_init__(self) -> None:
        try:
            chosen = parse_list("0" if self.nodes is None else self.nodes)
        except ValueError:
            chosen = frozenset()
        if not chosen:
            raise ValueError('nodes must be numbers of NUMA nodes, such as "0" or "0-1"')
        if self.timeout < 0:
            raise ValueError("timeout must not be negative")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    needed = _needed(domain, options, host)
    found = {key: _pool(host, *key) for key in sorted(needed)}
    adding = {key: max(0, needed[key] - (found[key].free if options.reuse else 0)) for key in found}
    for node in sorted({node for node, _ in adding}):
        wanted = sum(count * size for (on, size), count in adding.items() if on == node)
        _check_room(host, domain, node, wanted)
    for key, count in adding.items():
        if count:
            yield Step("hugepages", Pages(found[key].path, options.timeout), Add(count))


def _needed(domain: Domain, options: Options, host: Host) -> dict[tuple[int, int], int]:
    """How many pages the domain's memory needs, by host node and page size in KiB."""
    if domain.hugepages is None and not any(part.page for part in _parts(domain)):
        raise HookError(
            f"domain {domain.name} does not ask for hugepages",
            "add <memoryBacking><hugepages/></memoryBacking> to it (virsh edit), or remove "
            "[hugepages] from vm.toml",
        )
    there = {node.number: node for node in nodes(host) if node.memory}
    total: dict[tuple[int, int], int] = {}
    for part in _parts(domain):
        size = _page_size(host, domain.hugepages or (), part)
        if size is None:
            continue
        homes = _homes(domain, options, part, there)
        share, left = divmod(-(-part.size // size), len(homes))
        for position, node in enumerate(homes):
            key = node, size
            total[key] = total.get(key, 0) + share + (position < left)
    return total


def _parts(domain: Domain) -> Iterator[MemoryDevice]:
    """The parts of the domain's memory. A guest without NUMA nodes has all of it in one part."""
    if not domain.cell_memory:
        yield MemoryDevice(domain.memory, 0)
        return
    for cell, memory in domain.cell_memory.items():
        yield MemoryDevice(memory, cell)
    yield from domain.memory_devices


def _page_size(host: Host, pages: tuple[HugePages, ...], part: MemoryDevice) -> int | None:
    """The size of a part's pages in KiB; None if it is not backed by hugepages."""
    own = [page for page in pages if page.nodes is not None and part.cell in page.nodes]
    page = next(iter(own or [page for page in pages if page.nodes is None]), None)
    if part.page is None and page is None:
        return None
    there = host_memory.page_sizes(host)
    size = part.page or (page and page.size) or host_memory.default_page_size(host)
    if size == _SMALL:
        return None
    if size not in there:
        sizes = ", ".join(map(amount, there))
        raise HookError(
            f"the domain asks for {f'pages of {amount(size)}' if size else 'hugepages'}",
            f"this host has {sizes}: change <page size> in its <memoryBacking> (virsh edit)"
            if there
            else "this host's kernel has no hugepages: remove <memoryBacking><hugepages> from "
            "its XML (virsh edit), and [hugepages] from vm.toml",
        )
    return size


def _homes(
    domain: Domain, options: Options, part: MemoryDevice, there: dict[int, Node]
) -> list[int]:
    """The host nodes that a part's pages are put on, at least one."""
    if options.nodes is not None:
        return _existing(parse_list(options.nodes), there, "nodes in [hugepages]")
    if part.nodes:
        return _existing(part.nodes, there, "the <nodemask> of the domain's <memory>")
    if named := domain.cell_nodes.get(part.cell, domain.numa_nodes):
        return _existing(named, there, "the domain's <numatune>")
    if not there:
        raise HookError(
            "this host does not show how much memory it has, or on which NUMA nodes",
            f"look at {NODES}/node0/meminfo and /proc/meminfo",
        )
    near = [number for number, node in there.items() if node.cpus & domain.pinned]
    return sorted(near or there)


def _existing(named: CpuSet, there: dict[int, Node], who: str) -> list[int]:
    if missing := named - there.keys():
        raise HookError(
            f"{who} names node {format_list(missing)}, but this host has no memory there",
            f"there is: {format_list(there) or 'none'}",
        )
    return sorted(named)


def _pool(host: Host, node: int, size: int) -> Pool:
    found = pool(host, node, size)
    if found is None:
        raise HookError(f"node {node} has no pages of {amount(size)}")
    return found


def _check_room(host: Host, domain: Domain, node: int, wanted: int) -> None:
    """Raise HookError at once for what no compaction can make possible. `wanted` is in KiB."""
    memory = next(one.memory for one in nodes(host) if one.number == node)
    taken = host_memory.in_hugepages(host, node)
    if wanted > memory - taken:
        raise HookError(
            f"domain {domain.name} needs {amount(wanted)} on node {node}, which has "
            f"{amount(memory)}, {amount(taken)} of it already in hugepages",
            "stop another VM, give this one less memory, or let it use another node",
        )
