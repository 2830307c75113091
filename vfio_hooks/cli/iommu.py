"""`vfio-hooks iommu`: which devices can only be passed together, and who has them."""

import argparse
from collections.abc import Iterator, Sequence

from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths
from vfio_hooks.cli.domains import Defined, add_sources, sources
from vfio_hooks.cli.terminal import clean, paint, say, say_json
from vfio_hooks.engine.journal import State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.pci import GROUPS, Function, card, group_members
from vfio_hooks.host.pci_traits import Traits, names, traits
from vfio_hooks.record import asdict, field, record
from vfio_hooks.sharing import Exclusive

_WIDTH = 100
_EPILOG = """\
The devices of a group can reach each other's memory without passing the IOMMU. So a group goes to
a VM as a whole: no driver of the host may use any device of it, apart from bridges. A device of
the host that shares a group with one of a VM is marked. Another slot of the mainboard may have a
group of its own for the whole card. An ACS override would split the group without really
separating the devices.

"VM" is the VM that has a device now; "for VM" is one whose definition names it.

examples:
  vfio-hooks iommu
  vfio-hooks iommu --json | jq '.groups[] | select(.shared)'
  vfio-hooks iommu --root host.tar.xz
"""


@record
class Member:
    """A function of a group. `holder` is the VM that has it now, by its journal; `wanted_by` are
    the VMs whose XML names it. `shares` says that a VM is given another function of the group while
    a driver of the host uses this one, which VFIO refuses."""

    function: Function
    traits: Traits
    name: str
    holder: str | None
    wanted_by: tuple[str, ...]
    shares: bool = False


@record
class Group:
    """An IOMMU group; `kind` is the kernel's word for its translation: "DMA", "identity"."""

    number: str
    kind: str
    members: tuple[Member, ...] = field(default=())

    @property
    def shared(self) -> bool:
        return any(member.shares for member in self.members)


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "iommu",
        run,
        line="show the IOMMU groups: devices, drivers, resets, and which VM uses them",
        description="Show the IOMMU groups of this host: which devices can only be passed to a "
        "VM\ntogether, their drivers, links and resets, and which VMs have them now or in their "
        "XML.",
        epilog=_EPILOG,
    )
    add_sources(parser)
    add_paths(parser, "root", "state-dir")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    host = here.host()
    domains, failure = sources(arguments, host)
    notes = [str(failure)] if failure else []
    found = groups(host, domains, holders(here.folder()) if host.is_this_machine else {})
    if not found:
        raise HookError(
            f"this host has no IOMMU group ({GROUPS} is empty)",
            "switch the IOMMU (VT-d, AMD-Vi) on in the firmware; Intel's also needs the kernel "
            "parameter intel_iommu=on",
        )
    if arguments.json:
        shown = [{**asdict(group), "shared": group.shared} for group in found]
        say_json({"groups": shown, "notes": notes})
    else:
        _show(found, notes)
    return 0


def holders(folder: StateFolder) -> dict[str, str]:
    """For each device's address the VM that has it now, as far as this user may read that."""
    try:
        journals = Ledger(folder).read_all().journals.values()
    except OSError:
        return {}
    return {
        claim.step.knob.owner: journal.vm
        for journal in journals
        for claim in journal.claims.values()
        if isinstance(claim.step.share, Exclusive) and claim.state not in (State.UNDONE, State.LOST)
    }


def groups(host: Host, domains: Sequence[Defined], held: dict[str, str]) -> list[Group]:
    """All IOMMU groups, by number."""
    numbers = sorted(filter(str.isdecimal, host.names(GROUPS)), key=int)
    members = {number: group_members(host, number) for number in numbers}
    titles = names(one.ids for found in members.values() for one in found)
    wanted: dict[str, list[str]] = {}
    for one in domains:
        for passed in one.domain.pci:
            wanted.setdefault(passed.address, []).append(one.domain.name)
    return [
        Group(
            number,
            host.maybe(f"{GROUPS}/{number}/type") or "",
            tuple(_members(host, members[number], titles, held, wanted)),
        )
        for number in numbers
    ]


def _members(
    host: Host,
    functions: Sequence[Function],
    titles: dict[str, str],
    held: dict[str, str],
    wanted: dict[str, list[str]],
) -> Iterator[Member]:
    is_passed = any(one.address in held or one.address in wanted for one in functions)
    for one in functions:
        ours = one.address in held or one.address in wanted
        yield Member(
            function=one,
            traits=traits(host, one.address),
            name=titles.get(one.ids, ""),
            holder=held.get(one.address),
            wanted_by=tuple(wanted.get(one.address, ())),
            shares=is_passed and not ours and one.is_hosts,
        )


def _show(found: Sequence[Group], notes: Sequence[str]) -> None:
    for note in notes:
        say(paint(f"note: {clean(note)}", "yellow"))
    for group in found:
        say(paint(f"group {group.number}", "bold") + (f"  {group.kind}" if group.kind else ""))
        for member in group.members:
            for line in _lines(member):
                say(line)
    shared = [group.number for group in found if group.shared]
    if shared:
        say()
        say(
            paint(
                f"! In groups {', '.join(shared)} the host uses a device next to one of a VM,",
                "red",
            )
        )
        slot = "; or use another slot" if any(map(_another_slot_helps, found)) else ""
        say(f"  which VFIO refuses. Pass the marked devices as well{slot}; or have them taken from")
        say('  the host while the VM runs, in vm.toml, below [pci]: group = "bind"')


def _another_slot_helps(group: Group) -> bool:
    """Whether a marked device is on another card than the VM's devices."""
    cards = {card(one.function.address) for one in group.members if one.holder or one.wanted_by}
    return any(card(one.function.address) not in cards for one in group.members if one.shares)


def _lines(member: Member) -> Iterator[str]:
    one, seen = member.function, member.traits
    head = f"  {one.address}  {seen.kind:11}  {one.driver or '-':15}  {one.ids:9}  "
    yield head + _cut(clean(member.name), _WIDTH - len(head))
    parts = []
    if seen.boot_vga:
        parts.append("boot display")
    if seen.link:
        best = f" of {seen.best}" if seen.is_slowed else ""
        parts.append(f"{seen.link}{best}")
    if not one.is_bridge:
        parts.append(f"reset: {' '.join(seen.resets) or 'none'}")
    if member.holder:
        parts.append(paint(f"VM {clean(member.holder)}", "green"))
    elif member.wanted_by:
        parts.append("for VM " + ", ".join(map(clean, member.wanted_by)))
    if member.shares:
        parts.append(paint("! used by the host, in a VM's group", "red"))
    if parts and not (one.is_bridge and not member.wanted_by):
        yield " " * 16 + ", ".join(parts)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
