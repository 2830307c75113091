"""A likeness of a host: an emulated machine with the same CPUs, as far as QEMU can emulate them,
and the same IOMMU groups, with cards of the same classes.

It is planned here, from the host's files or those of a snapshot. Nothing is started here: the code
of the emulated host does that (tests/vm/likeness.py).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, sriov
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.framebuffer import users_of_memory
from vfio_hooks.host.pci import DEVICES, Function, direct_mapping, function, group_members
from vfio_hooks.record import record
from vfio_hooks.rehearse.likeness.addresses import named
from vfio_hooks.rehearse.likeness.domain import domain_there
from vfio_hooks.rehearse.likeness.functions import FRAMEBUFFER, VFS, wanted
from vfio_hooks.rehearse.likeness.processors import Processors, processors
from vfio_hooks.rehearse.likeness.slots import Placed, slots


@record
class Likeness:
    """What is made of a host, a domain and the texts in its folder.

    `words` are QEMU's arguments for the devices, `kernel` the kernel's parameters. `addresses` maps
    each PCI function of the host, and each that is named but absent, to its address in the
    likeness. `xml` is the domain for the likeness. The rest are lines for people: `wrong` says what
    is amiss without anything being started, `fatal` which of this keeps the VM from starting on the
    host, but not in the likeness, and `lost` what cannot be imitated.
    """

    processors: Processors
    words: tuple[str, ...]
    kernel: tuple[str, ...]
    placed: tuple[Placed, ...]
    addresses: dict[str, str]
    xml: bytes
    wrong: tuple[str, ...]
    fatal: tuple[str, ...]
    lost: tuple[str, ...]


def likeness(host: Host, xml: bytes, domain: Domain, texts: Mapping[str, str]) -> Likeness:
    """The likeness of a host for a domain with this XML, and the texts in its folder by their
    names. Raises HookError if the host or the domain cannot be read."""
    passed = frozenset(one.address for one in domain.pci)
    mentioned = passed.union(*map(named, texts.values()))
    cpus = processors(host, _pinned(domain))
    functions = wanted(host, mentioned)
    places = slots(functions, cpus.nodes)
    addresses = {one.wanted.function.address: one.address for one in places.placed}
    for one in places.placed:
        if one.wanted.vfs is not None:
            addresses |= dict(_vfs(host, one))
    absent = [
        address
        for address in sorted(mentioned - addresses.keys())
        if not host.exists(f"{DEVICES}/{address}")
    ]
    # There is nothing on bus ff.
    addresses |= {one: f"0000:ff:{slot:02x}.0" for slot, one in enumerate(absent, 1)}
    there = domain_there(xml, domain, cpus, addresses)
    present = sorted(passed.difference(absent))
    fatal = tuple(_fatal(host, present))
    lost = [*cpus.lost, *(one.lost for one in functions if one.lost)]
    lost += [f"{one.function}: there is no slot for it" for one in places.left_out]
    return Likeness(
        processors=cpus,
        words=places.words,
        kernel=FRAMEBUFFER if any(one.wanted.has_framebuffer for one in places.placed) else (),
        placed=places.placed,
        addresses=addresses,
        xml=there.xml,
        wrong=(*_absent(passed.intersection(absent)), *fatal, *_wrong(host, present)),
        fatal=fatal,
        lost=(*lost, *(f"{domain.name}: {what}" for what in there.lost)),
    )


def _pinned(domain: Domain) -> CpuSet:
    return frozenset().union(*domain.vcpu_pins.values())


def _vfs(host: Host, pf: Placed) -> Iterator[tuple[str, str]]:
    """The addresses of a PF's VFs on the host and in the likeness. igb's are two apart, from slot
    0x10 on."""
    bus = pf.address.removesuffix("00.0")
    own = pf.wanted.function.address
    known = [*sriov.vfs(host, own).items(), *sriov.vfs_to_come(host, own, VFS).items()]
    for number, address in known:
        yield address, f"{bus}{0x10 + number // 4:02x}.{number % 4 * 2}"


def _absent(addresses: Iterable[str]) -> Iterator[str]:
    for address in sorted(addresses):
        yield f"{address}: the VM is given this function, but the host does not have it"


def _fatal(host: Host, passed: Sequence[str]) -> Iterator[str]:
    """What keeps a VM from its functions on the host, but cannot be imitated: the likeness always
    has an IOMMU, which maps nothing by itself."""
    for _, found in _functions(host, passed):
        if found.group is None:
            yield f"{found}: it is in no IOMMU group: the IOMMU is off"
    for address in _groups(host, passed).values():
        if error := direct_mapping(host, address):
            yield error.problem


def _wrong(host: Host, passed: Sequence[str]) -> Iterator[str]:
    """What may keep a VM from its functions in the likeness, too, and shows before a start."""
    for address, found in _functions(host, passed):
        if found.is_display and (users := ", ".join(users_of_memory(host, address))):
            yield f"{found}: {users} uses its memory"
    for group, address in _groups(host, passed).items():
        for one in group_members(host, group):
            if one.address not in passed and one.is_hosts:
                yield f"{address}: IOMMU group {group} has {one}, which stays with the host"


def _functions(host: Host, passed: Sequence[str]) -> Iterator[tuple[str, Function]]:
    """Those that exist; a VF may not have been made yet."""
    for address in passed:
        if found := function(host, address):
            yield address, found


def _groups(host: Host, passed: Sequence[str]) -> dict[str, str]:
    """Each IOMMU group of the functions, with the first of them that is in it."""
    groups: dict[str, str] = {}
    for address, found in _functions(host, passed):
        if found.group is not None:
            groups.setdefault(found.group, address)
    return groups
