"""The devices that a VM is given, and what it shares with the host."""

from collections.abc import Iterator, Sequence

from vfio_hooks.config.starter.choice import Choice
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host
from vfio_hooks.host.identity import identity
from vfio_hooks.host.mdev import type_of
from vfio_hooks.host.pci import DEVICES, card, function, group_members
from vfio_hooks.host.pci_traits import traits
from vfio_hooks.host.sriov import pf_of, vf_at


def virtual(domain: Domain, host: Host) -> Iterator[Choice]:
    """The table for VFs of network cards. Those that do not exist yet are made."""
    missing = [one for one in domain.pci if not host.exists(f"{DEVICES}/{one.address}")]
    to_come = [one.address for one in missing if vf_at(host, one.address)]
    functions = [one for one in domain.pci if pf_of(host, one.address)]
    if to_come:
        yield Choice("[[sriov]]", f"it makes {', '.join(to_come)}, which do not exist yet")
    elif functions:
        addresses = ", ".join(one.address for one in functions)
        why = (
            f"for virtual functions ({addresses}): a table makes them and sets their VLAN and more"
        )
        yield Choice("[[sriov]]", why, chosen=False)


def mediated(domain: Domain, host: Host) -> Iterator[Choice]:
    """The table for mediated devices that do not exist yet."""
    if absent := [uuid for uuid in domain.mdevs if type_of(host, uuid) is None]:
        yield Choice("[[mdev]]", f"it makes {', '.join(absent)}, which do not exist yet")


def pci(domain: Domain, host: Host) -> Iterator[Choice]:
    if not domain.pci:
        yield Choice("[pci]", "it is given no PCI device", chosen=False)
        return
    passed = [one.address for one in domain.pci]
    kinds = ", ".join(f"{address} ({traits(host, address).kind})" for address in passed)
    lines, problems = list[str](), list[str]()
    for address in _beside(passed, host):
        same = " (same card)" if card(address) in map(card, passed) else ""
        shares = f"{address} shares an IOMMU group with these, and the host uses it"
        lines.append(f"# {shares}.")
        problems.append(f'{shares}: add it to the VM{same}, or write group = "bind" into [pci]')
    if lines:
        lines += [
            "# The VM does not start unless such devices are added to it, or taken from the host:",
            '# "bind" takes them while the VM runs.',
            '# group = "error"',
        ]
    lines += _expected(passed, host)
    yield Choice("[pci]", f"it is given {kinds}", tuple(lines), problems=tuple(problems))


def _expected(passed: Sequence[str], host: Host) -> Iterator[str]:
    """Lines that say which device is at each address now, as another card may change that."""
    there = {address: found for address in passed if (found := identity(host, address))}
    if there:
        yield (
            "# What these devices are. If there is something else at an address, the VM does "
            "not start."
        )
        yield "[pci.expected]"
    for address, found in there.items():
        yield f'"{address}" = "{found}"'


def _beside(passed: Sequence[str], host: Host) -> list[str]:
    """Devices of the host that share a group with a passed one."""
    groups = {found.group for one in passed if (found := function(host, one)) and found.group}
    return sorted(
        member.address
        for group in groups
        for member in group_members(host, group)
        if member.address not in passed and member.is_hosts
    )


def shared(domain: Domain, host: Host) -> Iterator[Choice]:
    """Tables for memory that guest and host share, and for USB devices that they use in turn."""
    if domain.shared:
        paths = ", ".join(one.path for one in domain.shared)
        yield Choice(
            "[[shm]]",
            f"it shares {paths} with a program on the host, such as the Looking Glass client",
            ("# The user who runs that program:", '# owner = "alice"'),
        )
    if domain.usb:
        names = ", ".join(map(str, domain.usb))
        why = (
            f"QEMU takes {names} from their drivers by itself when the guest opens them; a table "
            f"does so earlier"
        )
        yield Choice("[[usb]]", why, chosen=False)
