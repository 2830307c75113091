"""The guest's memory: how much, in which pages, and who may take it back."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import attribute, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import HugePages
from vfio_hooks.domain.devices import kibibytes
from vfio_hooks.domain.editing import reach, remove
from vfio_hooks.host.cpu import nodes
from vfio_hooks.host.memory import amount, default_page_size, page_sizes, pool

if TYPE_CHECKING:
    from lxml.etree import _Element


@guest_rule(
    "memory-host",
    "error",
    why="VFIO locks all of a guest's memory, so it has to be there when the guest starts.",
    source="https://docs.kernel.org/driver-api/vfio.html",
)
def host(patient: Patient, guest: Guest) -> Iterator[Seen]:
    there = sum(node.memory for node in nodes(patient.host))
    if there and guest.domain.memory >= there and passed(patient, guest):
        yield Seen(
            f"the guest is to have {amount(guest.domain.memory)}, and this host has "
            f"{amount(there)}",
            f"<memory unit='KiB'>{there * 3 // 4 >> 20 << 20}</memory>, so that the host has some",
        )


@guest_rule(
    "memory-balloon",
    "warning",
    why="VFIO locks all of the guest's memory, so a balloon can give nothing back; its driver "
    "only costs.",
    source="memory-balloon-device",
)
def balloon(patient: Patient, guest: Guest) -> Iterator[Seen]:
    model = attribute(guest, "devices/memballoon", "model")
    if model != "none" and passed(patient, guest):
        yield Seen(
            f"the guest has a memory balloon ({model})"
            if model
            else "the guest has no <memballoon>, so that libvirt gives it one",
            "<devices><memballoon model='none'/></devices>",
            _no_balloon,
        )


def _no_balloon(root: "_Element") -> None:
    balloon = reach(root, "devices/memballoon")
    for below in list(balloon):
        remove(below)
    balloon.attrib.clear()
    balloon.set("model", "none")


@guest_rule(
    "memory-current",
    "warning",
    why="The difference is what the balloon is to take away at boot. With VFIO it cannot.",
    source="memory-allocation",
)
def current(patient: Patient, guest: Guest) -> Iterator[Seen]:
    now = guest.xml.find("currentMemory")
    if now is None or not passed(patient, guest) or not 0 < kibibytes(now) < guest.domain.memory:
        return
    memory = guest.domain.memory
    yield Seen(
        f"the guest starts with {amount(kibibytes(now))} of {amount(memory)}",
        f"<currentMemory unit='KiB'>{memory}</currentMemory>",
        _as_much_now,
    )


def _as_much_now(root: "_Element") -> None:
    memory, now = root.find("memory"), root.find("currentMemory")
    if memory is not None and now is not None:
        now.text = memory.text
        now.attrib.clear()
        for name, value in memory.attrib.items():
            if name == "unit":
                now.set(name, value)


@guest_rule(
    "memory-page-size",
    "error",
    why="QEMU does not start with memory that does not fill its huge pages, or pages of a size "
    "that the host has not.",
    source="memory-backing",
)
def page_size(patient: Patient, guest: Guest) -> Iterator[Seen]:
    known = page_sizes(patient.host)
    for page in guest.domain.hugepages or ():
        size = page.size or default_page_size(patient.host)
        if not size or not known:
            continue
        if size not in known:
            shown = ", ".join(map(str, known))
            yield Seen(
                f"huge pages of {size} KiB are asked for, and this host has those of {shown} KiB",
                f"<page size='{known[0]}' unit='KiB'/>"
                + (
                    ""
                    if size != 1 << 20
                    else "; for 1 GiB, the processor has to have the flag pdpe1gb"
                ),
            )
        elif guest.domain.memory % size and not guest.domain.cell_memory:
            up = -(-guest.domain.memory // size) * size
            yield Seen(
                f"{guest.domain.memory} KiB of memory do not fill pages of {amount(size)}",
                f"<memory unit='KiB'>{up}</memory>",
            )


@guest_rule(
    "memory-pool",
    "error",
    why="QEMU does not start where there are fewer free huge pages than the guest's memory needs.",
    source="memory-backing",
    sure="likely",
)
def free_pages(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain = guest.domain
    asked = domain.hugepages or ()
    if guest.running or len(asked) != 1 or "hugepages" in patient.tables:
        return
    size = _size(patient, asked[0])
    if size not in page_sizes(patient.host):
        return
    at = domain.numa_nodes or frozenset(node.number for node in nodes(patient.host))
    pools = [one for number in at if (one := pool(patient.host, number, size))]
    free = sum(one.free for one in pools)
    if pools and free * size < domain.memory:
        yield Seen(
            f"the guest needs {-(-domain.memory // size)} pages of {amount(size)}, and {free} are "
            "free",
            f"[hugepages] in {domain.name}'s vm.toml: pages are then there while it runs",
        )


def _size(patient: Patient, page: HugePages) -> int:
    return page.size or default_page_size(patient.host) or 0


@guest_rule(
    "memory-locked",
    "hint",
    why="VFIO locks the guest's memory anyway. <locked/> locks QEMU's own too, and takes away "
    "libvirt's limit for what it may lock.",
    source="memory-backing",
    sure="possible",
)
def locked(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find("memoryBacking/locked") is None or not passed(patient, guest):
        return
    if guest.xml.find("memtune/hard_limit") is None:
        yield Seen(
            "<locked/> without a limit: should QEMU leak memory, it takes the whole host's",
            "remove <locked/>, or add: <memtune><hard_limit unit='KiB'>"
            f"{guest.domain.memory + (2 << 20)}</hard_limit></memtune>",
        )


RULES = (host, balloon, current, page_size, free_pages, locked)
