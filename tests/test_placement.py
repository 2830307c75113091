"""The choice of CPUs: whole cores of one node, none of the host's, on hosts of every shape."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.fakes.kernel import Kernel
from tests.shapes import SHAPES, Shape, regular
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpu import Topology, topology
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.placement.choice import Placement, place
from vfio_hooks.placement.wish import Cell, Wish
from vfio_hooks.record import replace


def seen(shape: Shape) -> Topology:
    kernel = Kernel()
    kernel.files = shape.files()
    return topology(kernel)


TOPOLOGIES = {name: seen(shape) for name, shape in SHAPES.items()}


def hosts() -> st.SearchStrategy[Topology]:
    """The known shapes, and regular ones of any size."""
    few = st.integers(1, 4)
    made = st.builds(regular, few, few, few, st.integers(1, 8), st.sampled_from([1, 2, 4]))
    return st.one_of(st.sampled_from(list(TOPOLOGIES.values())), made.map(seen))


def test_the_common_hosts() -> None:
    for name, vcpus, node, expected, threads, emulator in (
        ("laptop", 4, None, "4 5 6 7", 2, "2-3"),
        ("ryzen", 8, None, "12 28 13 29 14 30 15 31", 2, "8,24"),
        ("ryzen", 12, 0, "10 26 11 27 12 28 13 29 14 30 15 31", 2, "8,24"),
        ("ryzen", 6, 0, "13 29 14 30 15 31", 2, "8,24"),
        ("threadripper", 8, 2, "20 52 21 53 22 54 23 55", 2, "16,48"),
        ("hybrid", 8, None, "4 5 6 7 8 9 10 11", 2, "2-3"),
        ("2 sockets", 8, 1, "8 9 10 11 12 13 14 15", 1, "1"),
        ("8 nodes of modules", 4, 3, "28 29 30 31", 2, "24-25"),
        ("GPUs as nodes", 8, 8, "96 97 98 99 100 101 102 103", 4, "88-91"),
    ):
        chosen = place(TOPOLOGIES[name], Wish("win11", vcpus, node=node))
        found = (" ".join(map(str, chosen.vcpus)), chosen.threads, format_list(chosen.emulator))
        assert found == (expected, threads, emulator), name


def test_caches_of_three_cores_share_the_load() -> None:
    """2 and 2 rather than 3 and 1."""
    chosen = place(seen(regular(1, 1, 4, 3, 2)), Wish("win11", 8))
    assert format_list(chosen.vcpus) == "4-5,7-8,16-17,19-20"
    assert any("6 vCPUs would fit on one" in reason for reason in chosen.reasons)


def test_a_large_cache_is_the_guests_alone() -> None:
    files = SHAPES["ryzen"].files()
    large = {f"/sys/devices/system/cpu/cpu{cpu}/cache/index3/size": "98304K" for cpu in X3D}
    kernel = Kernel()
    kernel.files = files | large
    chosen = place(topology(kernel), Wish("win11", 8, iothreads=1))
    assert frozenset(chosen.vcpus) <= X3D
    assert not chosen.emulator.union(*chosen.iothreads) & X3D


X3D = parse_list("0-7,16-23")


def check(found: Topology, wish: Wish, chosen: Placement) -> None:
    """What always holds."""
    vcpus = frozenset(chosen.vcpus)
    assert len(vcpus) == len(chosen.vcpus) == wish.vcpus
    assert vcpus <= found.online
    used = found.siblings(vcpus)
    # Whole cores: at most one core has threads that no vCPU is on, and nobody else gets these.
    assert sum(1 for core in found.cores if core & vcpus and core - vcpus) <= 1
    helpers = chosen.emulator.union(*chosen.iothreads)
    assert len(chosen.iothreads) == wish.iothreads
    assert chosen.emulator
    assert helpers
    assert not helpers & used
    assert not used & found.cores[0]
    assert not used & wish.taken
    one = [node for node in found.nodes if len(_free(found, node.cpus, wish)) >= wish.vcpus]
    homes = [node for node in found.nodes if node.cpus & vcpus]
    if one and not found.kinds:
        assert len(homes) == 1
    assert chosen.nodes == tuple(node.number for node in homes)
    for first in range(0, wish.vcpus, chosen.threads):
        pair = chosen.vcpus[first : first + chosen.threads]
        assert any(set(pair) <= core for core in found.cores)


def _free(found: Topology, cpus: CpuSet, wish: Wish) -> CpuSet:
    cores = [core for core in found.cores[1:] if not core & wish.taken and core <= cpus]
    return frozenset[int]().union(*cores)


@settings(max_examples=60, deadline=None)
@given(hosts(), st.integers(1, 40), st.integers(0, 3), st.none() | st.integers(0, 9))
def test_what_always_holds(found: Topology, vcpus: int, iothreads: int, node: int | None) -> None:
    wish = Wish("win11", vcpus, iothreads, node)
    try:
        chosen = place(found, wish)
    except HookError:
        assert len(found.online - found.cores[0]) < vcpus
        return
    check(found, wish, chosen)
    free = _free(found, found.online, wish)
    near = [one for one in found.nodes if one.number == node]
    if near and not found.kinds and len(free & near[0].cpus) >= vcpus:
        assert chosen.nodes == (node,)


@settings(max_examples=60, deadline=None)
@given(hosts(), st.lists(st.integers(1, 8), max_size=5))
def test_several_vms_have_no_cpu_in_common(found: Topology, sizes: list[int]) -> None:
    taken: CpuSet = frozenset()
    for size in sizes:
        wish = Wish("win11", size, iothreads=1, taken=taken)
        try:
            chosen = place(found, wish)
        except HookError as error:
            assert "--share" in error.hint or not taken
            return
        check(found, wish, chosen)
        taken |= frozenset(chosen.vcpus)


@settings(max_examples=60, deadline=None)
@given(hosts(), st.integers(1, 8))
def test_one_cache_where_it_fits(found: Topology, vcpus: int) -> None:
    assume(found.l3 and not found.kinds)
    chosen = place(found, Wish("win11", vcpus)) if len(found.online) > vcpus + 4 else None
    assume(chosen)
    assert chosen
    (first, *others) = [node for node in found.nodes if node.cpus & frozenset(chosen.vcpus)]
    free = _free(found, first.cpus, Wish("win11", vcpus))
    if not others and any(len(cache.cpus & free) >= vcpus for cache in found.l3):
        assert sum(1 for cache in found.l3 if cache.cpus & frozenset(chosen.vcpus)) == 1


@pytest.mark.parametrize(
    ("shape", "wish", "problem"),
    [
        (
            "one CPU",
            Wish("win11", 1),
            "only 0 CPUs are free for it: CPU 0 belongs to the host; this host",
        ),
        (
            "laptop",
            Wish("win11", 7),
            "has 7 vCPUs, and only 6 CPUs are free for it: CPUs 0-1",
        ),
        ("laptop", Wish("win11", 0), "give it at most 6 vCPUs"),
        (
            "laptop",
            Wish("win11", 6, taken=parse_list("2")),
            "only 4 CPUs are free for it: CPUs 0-1 belong to the host, CPU 2 belongs to other "
            "VMs; give it at most 4 vCPUs, or share CPUs with the other VMs: --share",
        ),
    ],
)
def test_what_does_not_fit_is_told(shape: str, wish: Wish, problem: str) -> None:
    with pytest.raises(HookError) as caught:
        place(TOPOLOGIES[shape], wish)
    assert problem in str(caught.value)


def test_a_much_larger_cache_comes_first() -> None:
    """The first of the two has the host's core."""
    for sizes, vcpus, cpus, why in (
        ((98304, 32768), 8, "4-7,20-23", "all share one L3 cache, the larger one (96 MiB)"),
        (
            (98304, 32768),
            16,
            "8-15,24-31",
            "14 vCPUs would fit on the larger L3 cache (96 MiB), from which games gain more",
        ),
        ((40960, 32768), 8, "12-15,28-31", "all share one L3 cache"),
    ):
        ryzen = TOPOLOGIES["ryzen"]
        pairs = zip(ryzen.caches, sizes, strict=True)
        caches = tuple(replace(cache, size=size) for cache, size in pairs)
        chosen = place(replace(ryzen, caches=caches), Wish("a", vcpus))
        told = [*chosen.reasons, *map(str, chosen.fewer)]
        assert (format_list(chosen.vcpus), why in told) == (cpus, True)


def test_nodes_without_the_memory_come_last() -> None:
    """As a Threadripper's that have none, and one that is too small."""
    found = TOPOLOGIES["threadripper"]
    sizes = (32, 0, 32, 8)
    nodes = tuple(
        replace(node, memory=size << 20) for node, size in zip(found.nodes, sizes, strict=True)
    )
    found = replace(found, nodes=nodes)
    for vcpus, memory, home, expected in (
        (8, 16, 1, (2,)),
        (8, 16, 0, (0,)),
        (8, 4, 3, (3,)),
        (8, 16, 3, (2,)),
        (20, 16, 1, (0, 2)),
        (8, 64, 3, (3,)),
        (8, 0, 1, (1,)),
    ):
        chosen = place(found, Wish("a", vcpus, node=home, memory=memory << 20))
        assert chosen.nodes == expected
    told = place(found, Wish("a", 8, node=3, memory=16 << 20)).reasons
    assert (
        "its graphics card is at node 3, which has no room for 16 GiB of memory; node 2 is the "
        "nearest one that has" in told
    )


def test_why_is_told() -> None:
    def reasons(shape: str, wish: Wish) -> str:
        chosen = place(TOPOLOGIES[shape], wish)
        return "; ".join([*chosen.reasons, *map(str, chosen.fewer)])

    assert "node 2 is where its graphics card is" in reasons("threadripper", Wish("a", 8, node=2))
    assert "which has no room for 16 vCPUs" in reasons(
        "threadripper", Wish("a", 16, node=2, taken=parse_list("16"))
    )
    assert "no node has 24 free CPUs" in reasons("threadripper", Wish("a", 24))
    told = reasons("hybrid", Wish("a", 16))
    assert "so the vCPUs are on several kinds" in told
    assert "10 vCPUs would fit on the performance cores alone" in told
    assert "all are performance cores" in reasons("hybrid", Wish("a", 10))
    assert "no L3 cache has enough free cores" in reasons("ryzen", Wish("a", 20))


def test_the_guests_own_nodes_are_where_their_memory_is() -> None:
    """The vCPUs of each are a range, in any order; those that are off have no CPU."""
    found = TOPOLOGIES["threadripper"]
    cells = (Cell(0, parse_list("0-3"), 3), Cell(1, parse_list("4-7"), 1))
    wish = Wish("a", 8, iothreads=1, node=2, cells=cells)
    chosen = place(found, wish)
    nodes = {node.number: node.cpus for node in found.nodes}
    assert set(chosen.vcpus[:4]) <= nodes[3]
    assert set(chosen.vcpus[4:]) <= nodes[1]
    assert (chosen.nodes, chosen.threads) == ((1, 3), 2)
    assert not (chosen.emulator | chosen.iothreads[0]) & found.siblings(chosen.vcpus)
    turned = place(found, replace(wish, cells=(cells[1], cells[0])))
    assert set(turned.vcpus[:4]) <= nodes[3]
    twice = (cells[0], replace(cells[1], node=3))
    assert set(place(found, replace(wish, cells=twice)).vcpus) <= nodes[3]


@pytest.mark.parametrize(
    ("node", "vcpus", "problem"),
    [
        (None, "4-7", "the memory of a's own NUMA node 1 is not bound to one node of this host"),
        (1, "4-23", "a's own NUMA node 1 has 20 vCPUs, but its memory is on node 1 of this host"),
    ],
)
def test_a_node_of_the_guests_without_a_home(node: int | None, vcpus: str, problem: str) -> None:
    cells = (Cell(0, parse_list("0-3"), 3), Cell(1, parse_list(vcpus), node))
    with pytest.raises(HookError) as caught:
        place(TOPOLOGIES["threadripper"], Wish("a", 24, cells=cells))
    assert problem in str(caught.value)
