"""NUMA nodes, level 3 caches and kinds of cores: what is near to what."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import attribute, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import put
from vfio_hooks.host.cpu import Cache, Node
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.host.memory import amount, fits
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.init.wish import taken

_GUIDE = "guide: vfio-isolate"


def _homes(patient: Patient, guest: Guest) -> list[Node]:
    """The host nodes that vCPUs are pinned to."""
    return [node for node in patient.topology.nodes if node.cpus & guest.domain.pinned]


@guest_rule(
    "node-pins",
    "warning",
    why="Memory of another node is slower, and a guest that is not told of nodes cannot avoid it.",
    source=_GUIDE,
)
def pins(patient: Patient, guest: Guest) -> Iterator[Seen]:
    homes = _homes(patient, guest)
    if len(homes) > 1 and guest.xml.find("cpu/numa") is None:
        largest = max(homes, key=lambda node: len(node.cpus))
        fits = len(guest.domain.pinned) <= len(largest.cpus)
        yield Seen(
            f"the vCPUs are pinned to CPUs of {_numbers(homes)}",
            f"pin them to node {largest.number}, which has CPUs {format_list(largest.cpus)}"
            if fits
            else "tell the guest of its nodes: <cpu><numa><cell …/></numa></cpu>, and each cell's "
            "memory in <numatune><memnode …/></numatune>",
        )


@guest_rule(
    "node-memory",
    "warning",
    why="Memory comes from any node unless it is told from which; from another one it is slower.",
    source=_GUIDE,
)
def memory(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain, homes = guest.domain, _homes(patient, guest)
    # A guest with nodes of its own has each of them somewhere.
    if len(patient.topology.nodes) < 2 or not homes:
        return
    if domain.cell_nodes or len(domain.cell_memory) > 1:
        return
    wanted = frozenset(node.number for node in homes)
    if domain.numa_nodes is not None and domain.numa_nodes <= wanted:
        return
    text = "has no node" if domain.numa_nodes is None else f"is of {_of(domain.numa_nodes)}"
    nodes = format_list(wanted)
    has_room = fits(domain.memory, homes)
    total = amount(sum(node.memory for node in homes))
    # "auto" placement asks numad, and goes with no nodeset.
    auto = attribute(guest, "numatune/memory", "placement") == "auto"
    yield Seen(
        f"the memory {text}, and the vCPUs are pinned to CPUs of {_of(wanted)}",
        f"<numatune><memory mode='strict' nodeset='{nodes}'/></numatune>"
        if has_room
        else f"give the guest less than its {amount(domain.memory)}: there are {total}, and the "
        "host needs some of that",
        put("numatune/memory", mode="strict", nodeset=nodes) if has_room and not auto else None,
    )


@guest_rule(
    "node-device",
    "warning",
    why="What a device reads and writes goes from processor to processor, where the VM is on "
    "another node than the device.",
    source=_GUIDE,
)
def device(patient: Patient, guest: Guest) -> Iterator[Seen]:
    homes = _homes(patient, guest)
    if not homes:
        return
    for one in passed(patient, guest):
        node = patient.host.maybe(f"{DEVICES}/{one.address}/numa_node")
        # -1 where the firmware does not say.
        near = [home for home in patient.topology.nodes if str(home.number) == node and home.cpus]
        if near and near[0] not in homes and one.address.endswith(".0"):
            yield Seen(
                f"{one} is at node {node}, and the vCPUs are pinned to CPUs of {_numbers(homes)}",
                f"pin them to CPUs of node {node}: {format_list(near[0].cpus)}, or put the card "
                "into a slot of the other processor",
            )


@guest_rule(
    "node-cache",
    "hint",
    why="CPUs that share a level 3 cache (on AMD: a CCX) talk through it; others through memory. "
    "Most games gain from a large one (X3D).",
    source="guide: Start VM",
    sure="likely",
)
def level_3(patient: Patient, guest: Guest) -> Iterator[Seen]:
    own, caches = guest.domain.pinned, patient.topology.l3
    used = [cache for cache in caches if cache.cpus & own]
    enough = patient.topology.fewest_l3(len(own))
    if len(used) > enough:
        shown = ", ".join(format_list(cache.cpus & own) for cache in used)
        roomy = max(caches, key=lambda cache: (len(cache.cpus), cache.size))
        yield Seen(
            f"the vCPUs are on {len(used)} level 3 caches ({shown}), and would fit on {enough}",
            f"pin them to CPUs that share one, as {format_list(roomy.cpus)} do",
        )
    elif len(used) == 1 and (better := _larger(patient, guest, used[0])):
        yield Seen(
            f"the vCPUs are on a level 3 cache of {amount(used[0].size)}, and would fit on one of "
            f"{amount(better.size)}",
            f"pin them to CPUs that share that: {format_list(better.cpus)}",
        )


def _larger(patient: Patient, guest: Guest, used: Cache) -> Cache | None:
    """A much larger cache near by that has room, with the host's first core left to the host."""
    host = patient.topology
    gone = host.cores[0] | taken(patient.others, host.online)
    near = frozenset[int]().union(*(home.cpus for home in _homes(patient, guest)))
    for cache in host.l3:
        room = (cache.cpus & near) - gone
        if used.is_dwarfed(cache.size) and len(room) >= guest.domain.vcpus:
            return cache
    return None


@guest_rule(
    "node-kinds",
    "warning",
    why="The guest takes all vCPUs for alike, and waits for the one on the slow core.",
    source="https://docs.kernel.org/admin-guide/pm/intel_pstate.html",
    sure="likely",
)
def kinds(patient: Patient, guest: Guest) -> Iterator[Seen]:
    used = {
        name: cpus & guest.domain.pinned
        for name, cpus in patient.topology.kinds.items()
        if cpus & guest.domain.pinned
    }
    if len(used) > 1:
        shown = ", ".join(f"{name}: {format_list(cpus)}" for name, cpus in used.items())
        best, cpus = next(iter(patient.topology.kinds.items()))
        yield Seen(
            f"the vCPUs are pinned to cores of {len(used)} kinds ({shown})",
            f"pin them to {best} cores: {format_list(cpus)}",
        )


def _numbers(nodes: list[Node]) -> str:
    return _of(frozenset(node.number for node in nodes))


def _of(nodes: frozenset[int]) -> str:
    return f"node{'s' if len(nodes) > 1 else ''} {format_list(nodes)}"


RULES = (pins, memory, device, level_3, kinds)
