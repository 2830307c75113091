"""What vfio-hooks reads of a domain's XML. https://libvirt.org/formatdomain.html"""

from __future__ import annotations

import re

from vfio_hooks.domain import tree
from vfio_hooks.domain.devices import (
    MemoryDevice,
    SharedMemory,
    UsbDevice,
    count,
    idle_vcpus,
    iothread_ids,
    kibibytes,
    memory_devices,
    number,
    shared_memories,
    usb_devices,
    working_iothreads,
)
from vfio_hooks.errors import HookError, Unread
from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.record import field, fields, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Literal

    from vfio_hooks.domain.tree import Element, OneElement


@record
class PciFunction:
    """A host PCI function that the domain is given. With `managed` libvirt binds it to vfio-pci
    and gives it back; `driver` is the VFIO variant driver that the domain asks for."""

    address: str
    managed: bool
    origin: Literal["hostdev", "interface", "disk"]
    driver: str | None = None


@record
class HugePages:
    """A <page> of <memoryBacking>. Without a size (KiB) the host's default is meant; `nodes`
    are guest NUMA nodes, None for all."""

    size: int | None
    nodes: CpuSet | None


@record
class Domain:
    """A domain's name and UUID, and what of it concerns the host. Memory is in KiB, and `memory`
    is all of it, that of memory devices included."""

    name: str
    uuid: str
    memory: int = 0
    vcpus: int = 0
    idle_vcpus: CpuSet = frozenset()
    """Those that are off when it starts."""
    vcpu_pins: dict[int, CpuSet] = field(default_factory=dict)
    """Pins of threads are those of <cputune>, else <vcpu cpuset=>, which is for all the rest."""
    emulator_pin: CpuSet | None = None
    iothread_pins: dict[int, CpuSet] = field(default_factory=dict)
    iothreads: tuple[int, ...] = ()
    """The numbers of its I/O threads."""
    working_iothreads: CpuSet = frozenset()
    """The I/O threads that have something to do."""
    numa_mode: str | None = None
    numa_nodes: CpuSet | None = None
    """The host nodes of <numatune><memory nodeset=>."""
    cell_nodes: dict[int, CpuSet] = field(default_factory=dict)
    """Host nodes of each guest NUMA node, from <memnode>."""
    cell_memory: dict[int, int] = field(default_factory=dict)
    """Memory of each guest NUMA node, from <cpu><numa><cell>; memory devices come on top."""
    cell_vcpus: dict[int, CpuSet] = field(default_factory=dict)
    """The vCPUs of each guest NUMA node."""
    memory_devices: tuple[MemoryDevice, ...] = ()
    hugepages: tuple[HugePages, ...] | None = None
    """None without <hugepages>."""
    pci: tuple[PciFunction, ...] = ()
    usb: tuple[UsbDevice, ...] = ()
    mdevs: tuple[str, ...] = ()
    """The UUIDs of its mediated devices."""
    shared: tuple[SharedMemory, ...] = ()
    networks: tuple[str, ...] = ()
    """The libvirt networks of its interfaces; a pool's interface has its function at start."""
    threads: int = 1
    """SMT threads of each core that the guest sees, from <cpu><topology>."""
    unread: dict[str, str] = field(default_factory=dict)
    """Why a field could not be read, and is as if the XML had nothing for it, by its name."""

    @property
    def pinned(self) -> CpuSet:
        """Every host CPU that a vCPU is pinned to."""
        return frozenset[int]().union(*self.vcpu_pins.values())


def identify(xml: bytes) -> tuple[str, str] | None:
    """Name and UUID of a domain from XML that libvirt wrote, without reading the rest of it.

    Undoing needs no more than this, however broken the rest is. libvirt formats the name and the
    UUID first, before anything that a user could have put there.
    """
    found = re.search(
        rb"<domain[^>]*>\s*<name>([^<]*)</name>\s*<uuid>([0-9a-fA-F-]{36})</uuid>", xml[:65536]
    )
    if not found:
        return None
    name = found[1].decode(errors="replace")
    for entity, character in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'")):
        name = name.replace(entity, character)
    return name.replace("&amp;", "&"), found[2].decode().lower()


class _Guarded(Domain):
    """A domain that tells of a part that could not be read when that is asked for."""

    def __getattribute__(self, name: str) -> Any:
        unread: dict[str, str] = object.__getattribute__(self, "unread")
        if name in unread:
            raise Unread(unread[name], "correct it with virsh edit")
        return object.__getattribute__(self, name)


def guarded(domain: Domain) -> Domain:
    """The same domain, for whoever must not take what could not be read for what is not there:
    asking for that raises Unread. What nobody asks for keeps nobody from anything."""
    values = {part.name: getattr(domain, part.name) for part in fields(domain)}
    return _Guarded(**values) if domain.unread else domain


def parse(xml: bytes) -> Domain:
    """Read a domain's XML. Raises HookError for what is not one. What in one cannot be read is in
    `unread`: QEMU and libvirt understand more than this program."""
    return of_element(tree.read(xml))


def of_element(root: Element) -> Domain:
    """`parse`, of a <domain> that has been read."""
    name = root.findtext("name")
    if not name:
        raise HookError("the domain XML has no <name>", "virsh dumpxml writes one")
    values: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for part, read in _PARTS.items():
        try:
            values[part] = read(root)
        except (ValueError, Unread) as error:
            # Python's word for "x" where a number has to be.
            why = re.sub(
                r"invalid literal for int\(\) with base \d+: (.*)", r"\1 is no number", str(error)
            )
            unread[part] = f"the XML of domain {name}: {why}"
    uuid = (root.findtext("uuid") or _made_up(name)).strip().lower()
    return Domain(name=name, uuid=uuid, unread=unread, **values)


def _made_up(name: str) -> str:
    """The UUID of a domain that has none before libvirt chooses one, which `virsh define` does."""
    from uuid import NAMESPACE_DNS, uuid5

    return str(uuid5(NAMESPACE_DNS, name))


def pci_functions(root: OneElement) -> Iterator[tuple[OneElement, PciFunction]]:
    """What a domain is given of the host, and the <hostdev>, <interface> or <source> that says so.

    A network interface whose network is a pool of VFs has its function only at start and started,
    as type='hostdev'. Raises Unread for an address that is none.
    """
    for device in root.iterfind("devices/hostdev"):
        if device.get("type") == "pci" and device.get("mode", "subsystem") == "subsystem":
            yield device, _function(device, device.get("managed"), "hostdev")
    for device in root.iterfind("devices/interface[@type='hostdev']"):
        yield device, _function(device, device.get("managed"), "interface")
    # Also below the disk itself, as the backing store of an overlay.
    for source in root.iterfind("devices/disk//source[@type='pci']"):
        yield source, _function(source, source.get("managed"), "disk")


def _function(
    device: Element, managed: str | None, origin: Literal["hostdev", "interface", "disk"]
) -> PciFunction:
    address = device.find("address" if device.tag == "source" else "source/address")
    if address is None:
        raise Unread(f"a PCI <{device.tag}> without <source><address>")
    try:
        numbers = [number(address.get(part, "0")) for part in ("domain", "bus", "slot", "function")]
    except ValueError as error:
        raise Unread(f"the address of a PCI <{device.tag}>: {error}") from None
    return PciFunction(
        address="{:04x}:{:02x}:{:02x}.{:x}".format(*numbers),
        managed=managed == "yes",
        origin=origin,
        driver=_attribute(device.find("driver"), "model"),
    )


def _vcpus(root: Element) -> int:
    return count(root, "vcpu", 1)


def _cells(root: Element) -> dict[int, Element]:
    cells = enumerate(root.iterfind("cpu/numa/cell"))
    return {int(cell.get("id", str(position))): cell for position, cell in cells}


def _around(root: Element) -> CpuSet | None:
    """The CPUs of all threads that have no pin of their own, where no numad chooses them."""
    vcpu = root.find("vcpu")
    return None if _attribute(vcpu, "placement") == "auto" else _cpus(vcpu, "cpuset")


def _pins(root: Element, tag: str, number: str, every: Iterable[int]) -> dict[int, CpuSet]:
    around = _around(root)
    own = {
        int(pin.get(number, "0")): parse_list(pin.get("cpuset", ""))
        for pin in root.iterfind(f"cputune/{tag}")
    }
    return dict.fromkeys(every, around) | own if around else own


def _cpus(element: Element | None, attribute: str) -> CpuSet | None:
    text = _attribute(element, attribute)
    return None if text is None else parse_list(text)


def _attribute(element: Element | None, name: str) -> str | None:
    return None if element is None else element.get(name)


def _hugepages(root: Element) -> tuple[HugePages, ...] | None:
    backing = root.find("memoryBacking/hugepages")
    if backing is None:
        return None
    pages = tuple(
        HugePages(kibibytes(page, page.get("size")), _cpus(page, "nodeset"))
        for page in backing.iterfind("page")
    )
    return pages or (HugePages(None, None),)


_PARTS: dict[str, Callable[[Element], Any]] = {
    "memory": lambda root: kibibytes(root.find("memory")),
    "vcpus": _vcpus,
    "idle_vcpus": lambda root: idle_vcpus(root, _vcpus(root)),
    "iothreads": lambda root: tuple(iothread_ids(root)),
    "working_iothreads": working_iothreads,
    "vcpu_pins": lambda root: _pins(root, "vcpupin", "vcpu", range(_vcpus(root))),
    "emulator_pin": lambda root: _cpus(root.find("cputune/emulatorpin"), "cpuset") or _around(root),
    "iothread_pins": lambda root: _pins(root, "iothreadpin", "iothread", iothread_ids(root)),
    "numa_mode": lambda root: _attribute(root.find("numatune/memory"), "mode"),
    "numa_nodes": lambda root: _cpus(root.find("numatune/memory"), "nodeset"),
    "cell_nodes": lambda root: {
        int(node.get("cellid", "0")): parse_list(node.get("nodeset", ""))
        for node in root.iterfind("numatune/memnode")
    },
    "cell_memory": lambda root: {
        number: kibibytes(cell, cell.get("memory")) for number, cell in _cells(root).items()
    },
    "cell_vcpus": lambda root: {
        number: parse_list(cell.get("cpus", "")) for number, cell in _cells(root).items()
    },
    "memory_devices": lambda root: tuple(memory_devices(root)),
    "hugepages": _hugepages,
    "pci": lambda root: tuple(function for _, function in pci_functions(root)),
    "usb": lambda root: tuple(usb_devices(root)),
    "mdevs": lambda root: tuple(
        address.get("uuid", "").lower()
        for address in root.iterfind("devices/hostdev[@type='mdev']/source/address")
    ),
    "shared": lambda root: tuple(shared_memories(root)),
    "networks": lambda root: tuple(
        source.get("network", "")
        for source in root.iterfind("devices/interface[@type='network']/source")
    ),
    "threads": lambda root: int(_attribute(root.find("cpu/topology"), "threads") or 1),
}
"""How each part of a domain is read. Raises ValueError for one that cannot be."""
