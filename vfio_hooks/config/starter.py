"""A first vm.toml: the tables that this VM calls for on this host, each with the reason."""

from collections.abc import Iterator, Sequence
from shlex import quote
from textwrap import wrap

from vfio_hooks.domain import Domain
from vfio_hooks.host import Host, cgroup, cpufreq
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.host.desktops import Rung, rungs
from vfio_hooks.host.identity import identity
from vfio_hooks.host.in_use import unit_of
from vfio_hooks.host.memory import amount
from vfio_hooks.host.pci import (
    DEVICES,
    Function,
    card,
    function,
    group_members,
    is_for_guests,
    is_shown_to_vfio,
    kept_displays,
    passed_displays,
)
from vfio_hooks.host.pci_traits import traits
from vfio_hooks.host.sriov import pf_of, vf_at
from vfio_hooks.plugins.pinning import kept
from vfio_hooks.record import record

_WIDTH = 96
_WATCH = (
    "# Say so, in the log and on the desktop, if the guest's driver has not taken the card by "
    "then:",
    "# alive = 90",
)
"""For a host with one card, whose owner sees nothing while the guest shows nothing."""


@record
class Choice:
    """A table, "[pci]": why it is there, and its lines. One without `chosen` is left out, for
    that reason, and stands in the file as a comment. `problems` are what the VM's owner has to
    settle before it starts."""

    table: str
    why: str
    lines: tuple[str, ...] = ()
    chosen: bool = True
    problems: tuple[str, ...] = ()


def choices(domain: Domain, host: Host) -> Iterator[Choice]:
    """What suits a domain on a host, in the order in which the facilities act."""
    if domain.pci and host.exists("/run/systemd/system"):
        why = "few passed-through devices survive a suspend of the host"
        yield Choice("[inhibit]", why)
    yield from _cards(domain, host)
    yield from _pci(domain, host)
    yield from _shared(domain, host)
    if domain.hugepages is not None:
        yield Choice(
            "[hugepages]", f"its {amount(domain.memory)} of memory are backed by hugepages"
        )
    else:
        why = "its XML has no <memoryBacking><hugepages>, which are faster for a large VM"
        yield Choice("[hugepages]", why, chosen=False)
    pinned = _pinned(domain, host)
    if pinned:
        yield Choice(
            "[memory]",
            "it is bound to CPUs, so NUMA balancing, page merging and similar work of the kernel "
            "only disturb it",
        )
    yield from _cpus(pinned, host)
    if pinned:
        why = f"the host's interrupts are kept off CPUs {format_list(pinned)}"
    else:
        why = "no vCPU is pinned"
    yield Choice("[irqs]", why, chosen=bool(pinned))
    yield from _governor(domain, host)


def toml(domain: Domain, made: Sequence[Choice]) -> str:
    """The file's text."""
    lines = _wrapped(
        f"What vfio-hooks does for {domain.name} while it runs. Each table here switches its "
        f"facility on; an empty table takes everything that it needs from the VM's XML. Values "
        f"after a # are the defaults. man vfio-hooks.toml describes all tables and keys."
    )
    for choice in made:
        lines += ["", *_wrapped(choice.why[:1].upper() + choice.why[1:] + ".")]
        told = (choice.table, *choice.lines)
        lines += told if choice.chosen else [f"# {line.removeprefix('# ')}" for line in told]
    return "\n".join(lines) + "\n"


def _cards(domain: Domain, host: Host) -> Iterator[Choice]:
    """What a graphics card needs that a driver of the host has now."""
    passed = [
        one
        for one in passed_displays(host, domain)
        if not is_for_guests(one.driver) and not is_shown_to_vfio(host, one.address)
    ]
    others = kept_displays(host, domain)
    if passed and others:
        found = [rung for card in passed for rung in rungs(host, card.address)]
        yield from _held(domain, host, found, ", ".join(one.address for one in others))
        yield from _beside_desktop(domain, passed, others)
    elif passed:
        why = (
            f"{passed[0].address} is the only graphics card of this host, so the desktop on it "
            f"ends when the VM starts and comes back afterwards: save your work first"
        )
        yield Choice("[session]", why)
    if passed:
        why = "if the driver does not take the card back after the VM, the bus is rescanned for it"
        yield Choice("[gpu]", why, () if others else _WATCH)
    yield from _virtual(domain, host)


def _held(domain: Domain, host: Host, found: Sequence[Rung], kept: str) -> Iterator[Choice]:
    """What has the programs let go that have a passed card open, beside cards that are `kept`."""
    for rung in found:
        unit = unit_of(host, rung.holder.pid)
        if rung.number == 4 and unit:
            yield Choice("[[service]]", f"{rung.holder}", (f'unit = "{unit}"',))
    desktops = [rung for rung in found if rung.number in (1, 2)]
    # How the others let go is for their owner to settle.
    settled = f": vfio-hooks desktop {quote(domain.name)} shows how, and writes that"
    problems = [f"{rung}{settled * (rung.number == 2)}" for rung in found if rung.number in (2, 3)]
    if desktops:
        why = f"{desktops[0].holder}; it switches off its monitors on the passed card and closes it"
    else:
        why = "for a desktop with monitors on the passed card: they are switched off before the VM"
        why += f" starts; the host keeps {kept}"
    yield Choice("[display]", why, (), bool(desktops), tuple(problems))


def _virtual(domain: Domain, host: Host) -> Iterator[Choice]:
    """The VFs of network cards: those that are not there yet are made."""
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


def _beside_desktop(
    domain: Domain, passed: Sequence[Function], others: Sequence[Function]
) -> Iterator[Choice]:
    """What nvidia's driver needs, which lets a card go only without its other modules."""
    held = [one.address for one in passed if one.driver == "nvidia"]
    staying = [one.address for one in others if one.driver == "nvidia"]
    if held and staying:
        why = (
            f"nvidia's driver lets {held[0]} go only if its modules are unloaded, and the host's "
            f"{staying[0]} needs them"
        )
        problem = (
            f"the VM's start would hang: sudo vfio-hooks check {quote(domain.name)} says how to "
            f"give {held[0]} to vfio-pci at boot"
        )
        yield Choice("[session]", why, chosen=False, problems=(problem,))
    elif held:
        why = (
            f"nvidia's driver lets {held[0]} go only if its modules are unloaded; the desktop "
            f"keeps running"
        )
        yield Choice("[session]", why, ('manager = "none"',))


def _pci(domain: Domain, host: Host) -> Iterator[Choice]:
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
    """What is at each address now, which another card may change."""
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


def _shared(domain: Domain, host: Host) -> Iterator[Choice]:
    """Memory and USB devices that guest and host have in turns."""
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


def _cpus(pinned: CpuSet, host: Host) -> Iterator[Choice]:
    if not pinned:
        why = "no vCPU is pinned; vfio-hooks init --pins chooses CPUs"
        yield Choice("[cpus]", why, chosen=False)
    elif cgroup.layout(host) == "none":
        why = "this needs cpusets, which this host does not have"
        yield Choice("[cpus]", why, chosen=False)
    else:
        why = f"its vCPUs are pinned to CPUs {format_list(pinned)}, which host programs leave to it"
        yield Choice("[cpus]", why)


def _pinned(domain: Domain, host: Host) -> CpuSet:
    running = parse_list(host.maybe(f"{CPUS}/online") or "")
    return kept(domain, running) if running else domain.pinned


def _governor(domain: Domain, host: Host) -> Iterator[Choice]:
    policies = cpufreq.policies(host)
    if not policies:
        yield Choice("[governor]", "this host has no CPU frequency control", chosen=False)
        return
    now = policies[0].governor
    if not all("performance" in policy.governors for policy in policies):
        yield Choice("[governor]", "this host does not have the governor performance", chosen=False)
    else:
        whose = "its CPUs" if domain.pinned else "all CPUs"
        yield Choice(
            "[governor]",
            f"{whose} run at full speed while the VM runs; the governor is {now} now",
            ('# governor = "performance"',),
        )


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in wrap(_comment(text), _WIDTH)]


def _comment(text: str) -> str:
    """Text that cannot end a comment of TOML."""
    return "".join(one if one.isprintable() else "?" for one in text)
