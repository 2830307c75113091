"""The user's domain, changed so that it can run in the likeness of the host.

It is a clone, which has nothing that could be lost, with the name of the domain. The likeness has
no KVM and little memory. The guest is a firmware that does nothing.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from vfio_hooks.domain import Domain, pci_functions
from vfio_hooks.domain.devices import QEMU
from vfio_hooks.domain.text import element, serialized
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.record import record
from vfio_hooks.rehearse.clone import NO_USB, clone
from vfio_hooks.rehearse.likeness.processors import MOST, Processors

if TYPE_CHECKING:
    from lxml.etree import _Element

FIRMWARE = "/var/lib/emulated-host/idle.bin"
"""A firmware in the likeness, which halts the CPU."""
_MEMORY = 256 << 10
_HUGE = 1 << 20
"""KiB; a page of 1 GiB needs as much."""
_DROPPED = """
    currentMemory maxMemory memtune vcpus resource features clock seclabel cpu
    cputune/vcpusched cputune/cachetune cputune/memorytune numatune/memnode
    devices/emulator devices/controller devices/memory devices/iommu
    devices/hostdev/address devices/hostdev/rom devices/interface/address
""".split()
_PLACE = ("domain", "bus", "slot", "function")
_REAL = """\
<domain><os><type arch="x86_64" machine="q35">hvm</type>
<loader readonly="yes" type="rom">{}</loader></os>
<features><acpi/><apic/></features>
<cpu mode="custom" match="exact" check="none"><model fallback="allow">qemu64</model></cpu></domain>
"""


@record
class DomainThere:
    """A domain's XML for the likeness, and which parts of the domain it lacks, in words."""

    xml: bytes
    lost: tuple[str, ...]


def domain_there(
    xml: bytes, domain: Domain, cpus: Processors, addresses: Mapping[str, str]
) -> DomainThere:
    """The domain for a likeness with these CPUs and PCI addresses."""
    made = clone(domain.name, xml, lambda _: False)
    root = element(made.xml)
    lost = [f"its {name}" for name in made.lacks]
    lost += _drop(root)
    root.set("type", "qemu")
    for tag, text in (("name", domain.name), ("uuid", domain.uuid)):
        one = root.find(tag)
        assert one is not None
        one.text = text
    for old in root.findall("os"):
        root.remove(old)
    root.extend(element(_REAL.format(FIRMWARE).encode()))
    devices = root.find("devices")
    if devices is not None:
        devices.append(root.makeelement("controller", NO_USB))
    lost += _memory(root, domain)
    lost += _threads(root, domain, cpus)
    for source, function in list(pci_functions(root)):
        # The addresses in the guest have been removed by now.
        place = source.find(".//address")
        if place is not None and (new := addresses.get(function.address)):
            for name, text in zip(_PLACE, re.split("[:.]", new), strict=True):
                place.set(name, f"0x{text}")
    return DomainThere(serialized(root).encode(), tuple(lost))


def _drop(root: "_Element") -> Iterator[str]:
    """Remove what the likeness cannot have. Yields the parts that matter."""
    for path in _DROPPED:
        parent, _, tag = path.rpartition("/")
        for above in root.findall(parent) if parent else [root]:
            for one in above.findall(tag):
                above.remove(one)
    for line in root.findall(f"{QEMU}commandline"):
        if any("/dev/kvmfr" in one.get("value", "") for one in line):
            root.remove(line)
            yield "its <qemu:commandline>, because there is no /dev/kvmfr0"
    for kind in ("usb", "mdev"):
        for one in root.findall(f"devices/hostdev[@type='{kind}']"):
            _remove(one)
            yield f"a <hostdev> of type {kind}"


def _remove(one: "_Element") -> None:
    parent = one.getparent()
    assert parent is not None
    parent.remove(one)


def _memory(root: "_Element", domain: Domain) -> Iterator[str]:
    is_huge = any(page.size == _HUGE for page in domain.hugepages or ())
    wanted = min(_HUGE if is_huge else _MEMORY, domain.memory)
    for memory in root.iterfind("memory"):
        memory.attrib.clear()
        memory.text = str(wanted)
    if wanted < domain.memory:
        yield f"all but {wanted >> 10} MiB of its memory"
    for page in root.iterfind("memoryBacking/hugepages/page"):
        page.attrib.pop("nodeset", "")


def _threads(root: "_Element", domain: Domain, there: Processors) -> Iterator[str]:
    """Pin its threads to the corresponding CPUs of the likeness. A vCPU whose CPUs are all missing
    is left out, and the others are numbered without a gap."""
    pins = {number: _cpus(cpus, there) for number, cpus in domain.vcpu_pins.items()}
    kept = [number for number in range(domain.vcpus) if pins.get(number, {0})][:MOST] or [0]
    if len(kept) < domain.vcpus:
        yield f"{domain.vcpus - len(kept)} of its {domain.vcpus} vCPUs"
    for vcpu in root.iterfind("vcpu"):
        vcpu.attrib.clear()
        vcpu.text = str(len(kept))
    for pin in root.findall("cputune/*[@cpuset]"):
        cpus = _cpus(parse_list(pin.get("cpuset", "")), there)
        number = pin.get("vcpu")
        if not cpus or (number is not None and int(number) not in kept):
            _remove(pin)
            continue
        pin.set("cpuset", format_list(cpus))
        if number is not None:
            pin.set("vcpu", str(kept.index(int(number))))
    for memory in root.findall("numatune/memory[@nodeset]"):
        nodes = parse_list(memory.get("nodeset", "")) & there.nodes.keys()
        if nodes:
            memory.set("nodeset", format_list(there.nodes[node] for node in nodes))
        else:
            _remove(memory)


def _cpus(cpus: CpuSet, there: Processors) -> CpuSet:
    return frozenset(there.cpus[cpu] for cpu in cpus if cpu in there.cpus)
