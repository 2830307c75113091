"""What the kernel does when nr_hugepages is written: as many as it finds, and surplus.

From mm/hugetlb.c of Linux 6.12, seen on the emulated host. nr_hugepages shows pages in use that
are beyond the number asked for, which surplus_hugepages counts.
"""

from typing import Protocol

NODES = "/sys/devices/system/node"
POOLS = "/sys/kernel/mm/hugepages"


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    free_pages: int
    """How many pages there can be, of any size, on all nodes together."""
    found_by_compaction: int
    """How many more each compaction makes possible."""


def add_node(kernel: Files, number: int, cpus: str, memory: int, *sizes: int) -> None:
    """A NUMA node with memory (KiB) and empty pools of these page sizes (KiB)."""
    folder = f"{NODES}/node{number}"
    kernel.files |= {
        f"{folder}/cpumap": f"{sum(1 << int(cpu) for cpu in cpus.split()):x}\n",
        f"{folder}/distance": "10 20\n",
        f"{folder}/meminfo": "".join(
            f"Node {number} {name}: {size} kB\n"
            for name, size in (
                ("MemTotal", memory),
                ("MemFree", 2048),
                ("AnonPages", 4 << 20),
                ("Slab", 8192),
            )
        ),
    }
    for size in sizes:
        add_pool(kernel, f"{folder}/hugepages/hugepages-{size}kB")
        kernel.files[f"{POOLS}/hugepages-{size}kB/nr_hugepages"] = "0\n"


def add_pool(kernel: Files, folder: str, count: int = 0) -> None:
    """Pages of one size, all of them free."""
    for name, number in (("nr", count), ("free", count), ("surplus", 0)):
        kernel.files[f"{folder}/{name}_hugepages"] = f"{number}\n"


def use(kernel: Files, folder: str, count: int) -> None:
    """A program takes pages, or (less than 0) gives them back."""
    free, surplus = _get(kernel, folder, "free"), _get(kernel, folder, "surplus")
    freed = max(0, -count)
    gone = min(freed, surplus)
    _set(kernel, folder, "surplus", surplus - gone)
    _set(kernel, folder, "nr", _get(kernel, folder, "nr") - gone)
    _set(kernel, folder, "free", free - count - gone)


def ask(kernel: Files, path: str, wanted: int) -> str:
    """What nr_hugepages shows after `wanted` was written to it."""
    folder = path.rpartition("/")[0]
    count, free, surplus = (_get(kernel, folder, name) for name in ("nr", "free", "surplus"))
    asked = count - surplus
    if wanted > asked:
        used_up = sum(
            int(text) for name, text in kernel.files.items() if name.endswith("/nr_hugepages")
        )
        kept = min(surplus, wanted - asked)
        fresh = min(wanted - asked - kept, max(0, kernel.free_pages - used_up))
        count, free, surplus = count + fresh, free + fresh, surplus - kept
    else:
        freed = min(free, asked - wanted)
        count, free = count - freed, free - freed
        surplus += asked - wanted - freed
    if f"{folder}/free_hugepages" in kernel.files:
        _set(kernel, folder, "free", free)
        _set(kernel, folder, "surplus", surplus)
    return str(count)


def make_room(kernel: Files) -> None:
    """Memory is compacted."""
    kernel.free_pages += kernel.found_by_compaction


def _get(kernel: Files, folder: str, name: str) -> int:
    return int(kernel.files.get(f"{folder}/{name}_hugepages", "0"))


def _set(kernel: Files, folder: str, name: str, value: int) -> None:
    kernel.files[f"{folder}/{name}_hugepages"] = f"{value}\n"
