"""What a graphics card needs that a driver of the host has now."""

from collections.abc import Iterator, Sequence
from shlex import quote

from vfio_hooks.config.starter.choice import Choice
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host
from vfio_hooks.host.desktops import Rung, rungs
from vfio_hooks.host.in_use import unit_of
from vfio_hooks.host.pci import (
    Function,
    is_for_guests,
    is_shown_to_vfio,
    kept_displays,
    passed_displays,
)

_WATCH = (
    "# Say so, in the log and on the desktop, if the guest's driver has not taken the card by "
    "then:",
    "# alive = 90",
)
"""For a host with one card, whose owner sees nothing while the guest shows nothing."""


def cards(domain: Domain, host: Host) -> Iterator[Choice]:
    """The tables for a graphics card that a driver of the host has now."""
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
            f"ends when the VM starts, and comes back afterwards: save your work first"
        )
        yield Choice("[session]", why)
    if passed:
        why = "if the driver does not take the card back after the VM, the bus is rescanned for it"
        yield Choice("[gpu]", why, () if others else _WATCH)


def _held(domain: Domain, host: Host, found: Sequence[Rung], kept: str) -> Iterator[Choice]:
    """The tables that make programs close a passed card; `kept` are the cards that the host
    keeps."""
    for rung in found:
        unit = unit_of(host, rung.holder.pid)
        if rung.number == 4 and unit:
            yield Choice("[[service]]", f"{rung.holder}", (f'unit = "{unit}"',))
    desktops = [rung for rung in found if rung.number in (1, 2)]
    # What the others need is for the VM's owner to decide.
    others = [rung for rung in found if rung.number in (2, 3)]
    problems = [f"{rung.holder}: {rung.advice(domain.name)}" for rung in others]
    if desktops:
        why = f"{desktops[0].holder}; it switches off its monitors on the passed card and closes it"
    else:
        why = "for a desktop with monitors on the passed card: they are switched off before the VM"
        why += f" starts; the host keeps {kept}"
    yield Choice("[display]", why, (), bool(desktops), tuple(problems))


def _beside_desktop(
    domain: Domain, passed: Sequence[Function], others: Sequence[Function]
) -> Iterator[Choice]:
    """The table that nvidia's driver needs: it only lets a card go without its other modules."""
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
