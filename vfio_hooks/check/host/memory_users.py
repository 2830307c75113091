"""The host's memory: who else needs it.

https://docs.kernel.org/admin-guide/mm/index.html
"""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import Host, boot, memory
from vfio_hooks.plural import counted, verb

_ARC = "https://openzfs.github.io/openzfs-docs, Module Parameters, zfs_arc_max"


@rule(
    "zfs-arc-large",
    "host",
    "warning",
    why="The ARC of ZFS grows up to its limit, and gives memory back too slowly for a VM that "
    "starts. The start then fails, or the host swaps.",
    source=f"{_ARC}; guide: ZFS config",
)
def arc(patient: Patient) -> Iterator[Seen]:
    host, guest = patient.host, patient.guest
    total, limit = memory.totals(host).get("MemTotal", 0), _arc_limit(host)
    if guest is None or not total or not limit:
        return
    left = total - guest.domain.memory
    if limit > left:
        goal = max(left // 2, 1 << 19)
        sizes = [memory.amount(size) for size in (limit, guest.domain.memory, total)]
        yield Seen(
            "ZFS may use {} and the VM has {}, of {} in all".format(*sizes),
            f"in /etc/modprobe.d/zfs.conf: options zfs zfs_arc_max={goal << 10}\n"
            f"and now: echo {goal << 10} > /sys/module/zfs/parameters/zfs_arc_max",
        )


def _arc_limit(host: Host) -> int:
    """KiB; 0 without ZFS. The statistic has what the parameter's 0 stands for."""
    for line in host.lines("/proc/spl/kstat/zfs/arcstats"):
        if line.startswith("c_max "):
            return int(line.split()[2]) >> 10
    return 0


@rule(
    "hugepages-idle",
    "host",
    "hint",
    why="The host cannot use hugepages that were reserved at boot, even while no VM uses them.",
    source="https://docs.kernel.org/admin-guide/mm/hugetlbpage.html; guide: Start VM",
)
def idle(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    at_boot = boot.values(host, "hugepages")
    where = f"hugepages={at_boot[-1]} on the kernel's command line" if at_boot else _SYSCTL
    sizes = {size: _pool(host, size) for size in memory.page_sizes(host)}
    own = patient.guest.domain.hugepages if patient.guest else None
    asked = {page.size or memory.default_page_size(host) for page in own or ()}
    for size, (count, free) in sizes.items():
        # Pages of 1 GiB can hardly be made later, as there is no such block of free memory.
        if count and free == count and size not in (*asked, 1 << 20):
            yield Seen(
                f"{counted(count, 'free hugepage')} of {memory.amount(size)} "
                f"{verb(count, 'takes', 'take')} {memory.amount(count * size)} from the host",
                f"remove {where}, and add to vm.toml: [hugepages]",
            )


_SYSCTL = "vm.nr_hugepages in /etc/sysctl.conf and /etc/sysctl.d"


def _pool(host: Host, size: int) -> tuple[int, int]:
    """How many pages of a size there are, and how many of them are free."""
    folder = f"{memory.POOLS}/hugepages-{size}kB"
    count, free = (host.maybe(f"{folder}/{name}_hugepages") or "0" for name in ("nr", "free"))
    return int(count), int(free)


@rule(
    "thp-never",
    "host",
    "hint",
    why="With pages of 4 KiB, each TLB miss of a guest costs two walks through page tables. A VM "
    "without hugepages gets large pages only if transparent ones are on.",
    source="https://docs.kernel.org/admin-guide/mm/transhuge.html",
)
def no_thp(patient: Patient) -> Iterator[Seen]:
    path, guest = "/sys/kernel/mm/transparent_hugepage/enabled", patient.guest
    if guest and guest.domain.hugepages is None and "[never]" in (patient.host.maybe(path) or ""):
        yield Seen(
            "the VM has no hugepages, and transparent ones are switched off",
            "in the XML: <memoryBacking><hugepages/></memoryBacking>, and in vm.toml: [hugepages]; "
            f"or: echo madvise > {path}",
        )


RULES = (arc, idle, no_thp)
