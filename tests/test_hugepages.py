"""The hugepages plugin and its knob: how many pages, where, and what when there are too few."""

import tempfile
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.hugepages import NODES, add_node, use
from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.domain import Domain, HugePages
from vfio_hooks.domain.devices import MemoryDevice
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host.memory import amount
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.plugins.hugepages import Options, plan
from vfio_hooks.record import replace
from vfio_hooks.sharing import Add
from vfio_hooks.steps import Step

PREPARE = Event("vm", "prepare")
GIB, MIB = 1 << 20, 1 << 10
SMALL, LARGE = 2 * MIB, GIB
ANY = HugePages(None, None)


def a_host() -> Kernel:
    """Two nodes of 16 GiB and two CPUs each."""
    kernel = Kernel()
    kernel.files |= {
        "/sys/devices/system/cpu/online": "0-3\n",
        "/proc/meminfo": "MemTotal: 33554432 kB\nHugepagesize: 2048 kB\n",
    }
    add_node(kernel, 0, "0 1", 16 * GIB, SMALL, LARGE)
    add_node(kernel, 1, "2 3", 16 * GIB, SMALL, LARGE)
    return kernel


def folder(node: int, size: int = SMALL) -> str:
    return f"{NODES}/node{node}/hugepages/hugepages-{size}kB"


def path(node: int, size: int = SMALL) -> str:
    return f"{folder(node, size)}/nr_hugepages"


def cpus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


VM = Domain("win", "u", memory=4 * GIB, hugepages=(ANY,))
PINNED = {0: cpus(2), 1: cpus(3)}
CELLS = {0: 2 * GIB, 1: GIB}
CELLS_AT: dict[str, Any] = {"cell_memory": CELLS, "cell_nodes": {0: cpus(1), 1: cpus(0)}}
BOTH_SIZES = (HugePages(LARGE, cpus(1)), HugePages(SMALL, None))


def slotted(*devices: MemoryDevice, **changes: Any) -> Domain:
    return replace(VM, **{"cell_memory": CELLS, "memory_devices": devices, **changes})


def planned(kernel: Kernel, domain: Domain, **options: Any) -> dict[tuple[int, int], int]:
    """Pages by node and size."""
    found = {}
    for step in plan(PREPARE, domain, Options(**options), kernel):
        assert isinstance(step.knob, Pages) and isinstance(step.share, Add)
        names = step.key.split("/")
        size = int(names[-2].removeprefix("hugepages-").removesuffix("kB"))
        found[int(names[5].removeprefix("node")), size] = step.share.count
    return found


@pytest.mark.parametrize(
    ("domain", "options", "pages"),
    [
        pytest.param(VM, {}, {(0, SMALL): 1024, (1, SMALL): 1024}, id="on all nodes"),
        pytest.param(replace(VM, vcpu_pins=PINNED), {}, {(1, SMALL): 2048}, id="at the pins"),
        pytest.param(
            replace(VM, vcpu_pins=PINNED, numa_nodes=cpus(0)), {}, {(0, SMALL): 2048}, id="numatune"
        ),
        pytest.param(
            replace(VM, numa_nodes=cpus(0)), {"nodes": "1"}, {(1, SMALL): 2048}, id="nodes option"
        ),
        pytest.param(
            replace(VM, hugepages=(HugePages(LARGE, None),), numa_nodes=cpus(0, 1)),
            {},
            {(0, LARGE): 2, (1, LARGE): 2},
            id="1 GiB on two nodes",
        ),
        pytest.param(
            replace(VM, memory=3 * SMALL - 1), {}, {(0, SMALL): 2, (1, SMALL): 1}, id="odd, rounded"
        ),
        pytest.param(
            replace(VM, **CELLS_AT),
            {},
            {(0, SMALL): 512, (1, SMALL): 1024},
            id="memnode",
        ),
        pytest.param(
            replace(VM, cell_memory=CELLS, hugepages=BOTH_SIZES, numa_nodes=cpus(0)),
            {},
            {(0, SMALL): 1024, (0, LARGE): 1},
            id="a size per cell",
        ),
        pytest.param(
            replace(VM, cell_memory=CELLS, hugepages=BOTH_SIZES[:1], numa_nodes=cpus(0)),
            {},
            {(0, LARGE): 1},
            id="one cell only",
        ),
        pytest.param(
            slotted(MemoryDevice(GIB, 0), MemoryDevice(2 * GIB, 1, LARGE), **CELLS_AT),
            {},
            {(0, SMALL): 512, (0, LARGE): 2, (1, SMALL): 1536},
            id="memory devices, at their cells",
        ),
        pytest.param(
            slotted(MemoryDevice(GIB, 0, SMALL, cpus(1)), MemoryDevice(GIB, 0), hugepages=None),
            {},
            {(1, SMALL): 512},
            id="a memory device alone",
        ),
        pytest.param(
            slotted(MemoryDevice(GIB, 0, 4), numa_nodes=cpus(0)),
            {},
            {(0, SMALL): 1536},
            id="a memory device of small pages",
        ),
    ],
)
def test_how_many_pages_on_which_node(
    domain: Domain, options: dict[str, str], pages: dict[tuple[int, int], int]
) -> None:
    assert planned(a_host(), domain, **options) == pages


def test_free_pages_count_only_when_asked() -> None:
    kernel = a_host()
    kernel.write(path(0), "1500")
    use(kernel, folder(0), 500)
    domain = replace(VM, numa_nodes=cpus(0))
    assert planned(kernel, domain) == {(0, SMALL): 2048}
    assert planned(kernel, domain, reuse=True) == {(0, SMALL): 1048}
    kernel.write(path(0), "4000")
    assert planned(kernel, domain, reuse=True) == {}


@pytest.mark.parametrize(
    ("meminfo", "asked"),
    # The kernel of the second has no line about them.
    [("Hugepagesize: 2048 kB", "pages of 2 MiB"), ("MemFree: 1 kB", "hugepages")],
)
def test_a_kernel_without_hugepages(meminfo: str, asked: str) -> None:
    kernel = a_host()
    for name in [name for name in kernel.files if "/hugepages" in name]:
        del kernel.files[name]
    kernel.files["/proc/meminfo"] = f"MemTotal: 33554432 kB\n{meminfo}\n"
    with pytest.raises(HookError) as failure:
        planned(kernel, VM)
    assert failure.value.problem == f"the domain asks for {asked}"
    assert failure.value.hint.startswith("this host's kernel has no hugepages: remove <memoryB")


def test_a_host_without_numa_has_one_pool() -> None:
    kernel = Kernel()
    kernel.files |= {
        "/sys/devices/system/cpu/online": "0-3\n",
        "/proc/meminfo": f"MemTotal: {8 * GIB} kB\nHugepagesize: 2048 kB\n",
        "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "0\n",
    }
    (step,) = plan(PREPARE, VM, Options(), kernel)
    assert step.key == "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"


@pytest.mark.parametrize(
    ("domain", "options", "words"),
    [
        (replace(VM, hugepages=None), {}, "<memoryBacking><hugepages/></memoryBacking>"),
        (
            replace(VM, hugepages=(HugePages(64, None),)),
            {},
            "64 KiB; this host has 2 MiB, 1 GiB: change <page size>",
        ),
        (replace(VM, numa_nodes=cpus(0, 3)), {}, "<numatune> names node 3"),
        (VM, {"nodes": "2"}, "nodes in [hugepages] names node 2"),
        (
            slotted(MemoryDevice(GIB, 0, None, cpus(5))),
            {},
            "the <nodemask> of the domain's <memory> names node 5",
        ),
        (replace(VM, memory=40 * GIB), {}, "needs 20 GiB on node 0, which has 16 GiB"),
    ],
)
def test_what_cannot_be_is_said_before_anything_changes(
    domain: Domain, options: dict[str, str], words: str
) -> None:
    with pytest.raises(HookError) as caught:
        planned(a_host(), domain, **options)
    assert words in str(caught.value)


@pytest.mark.parametrize("nodes", [cpus(0), cpus(), None])
def test_a_host_that_does_not_show_its_memory(nodes: frozenset[int] | None) -> None:
    kernel = a_host()
    for number in (0, 1):
        del kernel.files[f"{NODES}/node{number}/meminfo"]
    with pytest.raises(HookError, match="there is: none" if nodes else "how much memory it has"):
        planned(kernel, replace(VM, numa_nodes=nodes))


@pytest.mark.parametrize("options", [{"nodes": ""}, {"nodes": "a"}, {"timeout": -1.0}])
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def test_pages_of_other_vms_count_in_what_fits() -> None:
    kernel = a_host()
    kernel.write(path(0, LARGE), "13")
    with pytest.raises(HookError, match="13 GiB of it already in hugepages"):
        planned(kernel, replace(VM, numa_nodes=cpus(0)))


@settings(max_examples=200, deadline=None)
@given(
    order=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=12),
    static=st.integers(0, 5),
)
def test_any_order_of_vms_and_others_ends_with_the_others_pages(
    order: Sequence[tuple[int, int]], static: int
) -> None:
    """Three VMs start and stop; a fourth party adds pages of its own now and then."""
    kernel = a_host()
    kernel.free_pages = 1000
    kernel.write(path(0), str(static))
    others, running = static, set[int]()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as state:
        engine = Engine(kernel, StateFolder(state), Lines())
        for vm, number in order:
            if vm in running:
                running.remove(vm)
                assert engine.undo("release", uuid(vm)) == []
            else:
                steps = [Step("hugepages", Pages(path(0)), Add(10 * (vm + 1)))]
                engine.perform("prepare", uuid(vm), f"vm{vm}", partial(_these, steps))
                running.add(vm)
            if number > 30:
                others += number
                kernel.write(path(0), str(int(kernel.read(path(0))) + number))
            assert int(kernel.read(path(0))) == others + sum(10 * (vm + 1) for vm in running)
        for vm in list(running):
            assert engine.undo("release", uuid(vm)) == []
    assert kernel.read(path(0)) == str(others)


@pytest.mark.parametrize(
    ("size", "text"),
    [(64, "64 KiB"), (2048, "2 MiB"), (1536 * 1024, "1.5 GiB"), (1000, "1000 KiB")],
)
def test_amounts_for_people(size: int, text: str) -> None:
    assert amount(size) == text


def _these(steps: list[Step], _: object) -> list[Step]:
    return steps


def uuid(vm: int) -> str:
    return f"00000000-0000-0000-0000-00000000000{vm}"
