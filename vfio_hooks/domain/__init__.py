"""What vfio-hooks reads from a domain's XML. https://libvirt.org/formatdomain.html"""

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
    """A <page> of <memoryBacking>. `size` is in KiB, None for the host's default. `nodes` are guest
    NUMA nodes, None for all."""

    size: int | None
    nodes: CpuSet | None


@record
class Domain:
    """A domain's name and UUID, and what it needs from the host. Memory is in KiB. `memory` is all
    of it, including memory devices."""

    name: str
    uuid: str
    memory: int = 0
    vcpus: int = 0
    idle_vcpus: CpuSet = frozenset()
    """The vCPUs that are off when it starts."""
    vcpu_pins: dict[int, CpuSet] = field(default_factory=dict)
    """Pins of threads are those in <cputune>, and otherwise <vcpu cpuset=>."""
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
    """Why a field could not be read, by its name. It has the value for XML without that part."""

    @property
    def pinned(self) -> CpuSet:
        """Every host CPU that a vCPU is pinned to."""
        return frozenset[int]().union(*self.vcpu_pins.values())


def identify(xml: bytes) -> tuple[str, str] | None:
    """Name and UUID of a domain from XML that libvirt wrote, without reading the rest of it; None
    if they are not there.

    An undo needs no more than this, even if the rest is broken. libvirt writes the name and the
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
    """A domain that raises Unread when a part that could not be read is used."""

    def __getattribute__(self, name: str) -> Any:
        unread: dict[str, str] = object.__getattribute__(self, "unread")
        if name in unread:
            raise Unread(unread[name], "correct it with virsh edit")
        return object.__getattribute__(self, name)


def guarded(domain: Domain) -> Domain:
    """The same domain, but using a part that could not be read raises Unread, so that nobody
    mistakes it for a part that is not there. Parts that are not used do no harm."""
    values = {part.name: getattr(domain, part.name) for part in fields(domain)}
    return _Guarded(**values) if domain.unread else domain


def parse(xml: bytes) -> Domain:
    """Read a domain's XML. Raises HookError if it is not one. Parts that cannot be read are in
    `unread`: QEMU and libvirt understand more than this program."""
    return of_element(tree.read(xml))


def of_element(root: Element) -> Domain:
    """As `parse`, for a <domain> that has been read."""
    name = root.findtext("name")
    if not name:
        raise HookError("the domain XML has no <name>", "virsh dumpxml writes one")
    values: dict[str, Any] = {}
    unread: dict[str, str] = {}
    for part, read in _PARTS.items():
        try:
            values[part] = read(root)
        except (ValueError, Unread) as error:
            # Python's message for "x" in place of a number.
            why = re.sub(
                r"invalid literal for int\(\) with base \d+: (.*)",
                r"\1 is not a number",
                str(error),
            )
            unread[part] = f"the XML of domain {name}: {why}"
    uuid = (root.findtext("uuid") or _made_up(name)).strip().lower()
    return Domain(name=name, uuid=uuid, unread=unread, **values)


def _made_up(name: str) -> str:
    """A UUID for a domain without one, for which libvirt chooses one only at `virsh define`."""
    from uuid import NAMESPACE_DNS, uuid5

    return str(uuid5(NAMESPACE_DNS, name))


def pci_functions(root: OneElement) -> Iterator[tuple[OneElement, PciFunction]]:
    """The PCI functions of the host that a domain is given, each with the <hostdev>, <interface> or
    <source> that names it.

    A network interface whose network is a pool of VFs has its function only at start and started,
    as type='hostdev'. Raises Unread for an address that is not valid.
    """
    for device in root.iterfind("devices/hostdev"):
        if device.get("type") == "pci" and device.get("mode", "subsystem") == "subsystem":
            yield device, _function(device, device.get("managed"), "hostdev")
    for device in root.iterfind("devices/interface[@type='hostdev']"):
        yield device, _function(device, device.get("managed"), "interface")
    # It may also be deeper inside the disk, as the backing store of an overlay.
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
    """The CPUs of all threads without a pin of their own; None if numad chooses them."""
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
"""How each part of a domain is read. The functions raise ValueError for what cannot be read."""
