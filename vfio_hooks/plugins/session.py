"""The desktop on the host's only graphics card: ended while a VM has the card, back afterwards.

An empty table does everything that has to be done before a driver lets go of such a card. The
display manager is stopped, with its sessions, and the hook waits until no program has the card's
device nodes open. Then the text console is unbound, and so is the framebuffer that the firmware set
up, if it is on the card. nvidia's kernel modules are unloaded, and its daemons nvidia-persistenced
and nvidia-powerd are stopped for that; other drivers need no unloading.

When the VM ends, or does not start, everything comes back in the opposite order, the display
manager last. What did not run before stays off. The programs of the session end with it, so save
your work first. You can still start the VM from the desktop: libvirt continues with the start when
the program that asked for it is gone. The card itself is given to the VM with <hostdev>, and [pci]
brings its drivers back.

With restart = "without-card" the display manager is started again once the VM runs, on the cards
that the host keeps. This is for a desktop that never lets go of a card, as with nvidia's driver.
You have to log in again. When the VM ends, the display manager is stopped once more, with what is
open in it, and starts with all cards. Nobody is logged in automatically, because such a setting
could outlast a power cut. This was tried with greetd and sway on two emulated cards.

An nvidia card beside the desktop's own card, as for [display], needs only the last part of this:
with manager = "none" the desktop and the text console stay. If the desktop is on another nvidia
card, the modules stay as well, and vfio-pci has to have the VM's card from boot on: `vfio-hooks
check` with the VM's name says how.
"""

from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, in_use, modules, pci
from vfio_hooks.host.console import can_be_bound_again, framebuffer_switches
from vfio_hooks.host.framebuffer import firmware_framebuffers
from vfio_hooks.host.pci import Function, is_for_guests, kept_displays, passed_displays
from vfio_hooks.host.units import DISPLAY_MANAGER, is_installed
from vfio_hooks.knobs.base import NO_DRIVER
from vfio_hooks.knobs.console import UNBOUND, Console
from vfio_hooks.knobs.module import ABSENT, Module
from vfio_hooks.knobs.not_in_use import FREE, Freed
from vfio_hooks.knobs.platform_driver import PlatformDriver
from vfio_hooks.knobs.unit import ACTIVE, INACTIVE, Unit
from vfio_hooks.record import record
from vfio_hooks.sharing import Exclusive, Once, Override
from vfio_hooks.steps import Step

_STAYS = "none"
_NVIDIA = ("nvidia-persistenced.service", "nvidia-powerd.service")


@record
class Options:
    manager: str | None = None
    """The systemd unit of the display manager. If it is not set, the unit that
    /etc/systemd/system/display-manager.service points to is used, or none if that link does not
    exist. "none" leaves the display manager and the text console as they are."""
    modules: tuple[str, ...] | None = None
    """Kernel modules to unload, each together with all modules that depend on it. If it is not set,
    nvidia's modules are unloaded if the card has nvidia's driver. With [] no module is unloaded."""
    leftovers: Literal["wait", "end"] = "wait"
    """What happens to programs of user sessions that still have the card open after the display
    manager has stopped. With "wait" they may close it until `timeout` is over, and then the VM does
    not start. With "end" they are asked to end after a third of that time, and killed after two
    thirds. System services are never killed."""
    restart: Literal["after-vm", "without-card"] = "after-vm"
    """When the display manager is started again: when the VM has ended, or, with "without-card",
    also while the VM runs."""
    timeout: float = 30.0
    """How many seconds programs may take to close the card after the display manager has stopped.
    Each kernel module has as long to be unloaded."""


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op == "started" and options.restart == "without-card":
        yield from _again(host, options)
    if event.op != "prepare":
        return
    cards = passed_displays(host, domain)
    if not cards:
        raise HookError(
            f"domain {domain.name} is given no graphics card of this host",
            "add it as <hostdev> (virsh edit), or remove [session] from vm.toml",
        )
    cards = [card for card in cards if not is_for_guests(card.driver)]
    if not cards:
        return  # The host has not used the card since boot.
    if options.restart == "without-card":
        _check_another_card(host, domain, options)
    unloading = _unloading(host, cards, options)
    for unit in _units(host, options, unloading):
        yield Step("session", Unit(unit), Override(INACTIVE))
    stays, ends = options.manager == _STAYS, options.leftovers == "end"
    # If a sound server stays, [pci] announces that its card goes, and waits for the server.
    for function in _with_companions(host, domain, cards) if ends and not stays else cards:
        freed = Freed(function.address, options.timeout, ends, stays)
        yield Step("session", freed, Once(FREE), required=function in cards)
    if not stays:
        yield from _console(host, unloading)
    for card in cards:
        for device in firmware_framebuffers(host, card.address):
            yield Step("session", PlatformDriver(device), Override(NO_DRIVER))
    for module in unloading:
        # The cards whose driver is in the module are taken as soon as it is loaded again.
        own = (card for card in cards if modules.of_driver(host, card.driver or "") == module)
        knob = Module(module, tuple(card.address for card in own), options.timeout)
        yield Step("session", knob, Override(ABSENT))


def notes(domain: Domain, options: Options, host: Host) -> Iterator[str]:
    """The programs that the start would end, by name."""
    if options.manager == _STAYS or not (cards := passed_displays(host, domain)):
        return
    held = [holder for card in cards for holder in in_use.holders(host, card.address)]
    told = {f"{one.name} (pid {one.pid})": None for one in held if in_use.is_users(host, one.pid)}
    also = f", including {', '.join(told)}" if told else ""
    yield (
        f"all programs of the session end{also}, and so do the user's PipeWire and any "
        f"[[process]] that runs in the session"
    )


def _check_another_card(host: Host, domain: Domain, options: Options) -> None:
    """Raise HookError if no desktop could be shown while the VM runs."""
    if options.manager == _STAYS:
        raise HookError(
            'manager = "none" leaves no display manager to start again',
            "remove restart or manager from [session]",
        )
    if not any(card.driver for card in kept_displays(host, domain)):
        raise HookError(
            'restart = "without-card", but the host keeps no other graphics card with a driver',
            "remove restart from [session]; the desktop then comes back when the VM has ended",
        )


def _again(host: Host, options: Options) -> Iterator[Step]:
    """The step that starts the display manager while the VM runs. It is undone when the VM stops,
    before the card is back."""
    for unit in _units(host, options, [])[:1]:
        yield Step("session", Unit(unit), Override(ACTIVE), "stopped", required=False)


def _with_companions(host: Host, domain: Domain, cards: list[Function]) -> list[Function]:
    """The cards, and the other passed functions in their slots: a session also has a card's sound
    open."""
    slots = {pci.card(card.address) for card in cards}
    given = [one.address for one in domain.pci if pci.card(one.address) in slots]
    found = [one for address in given if (one := pci.function(host, address)) is not None]
    return [one for one in found if not is_for_guests(one.driver)]


def _units(host: Host, options: Options, unloading: list[str]) -> list[str]:
    linked = host.link(f"/etc/systemd/system/{DISPLAY_MANAGER}") or DISPLAY_MANAGER
    manager = options.manager or (linked if is_installed(host, linked) else None)
    units = [manager] if manager and manager != _STAYS else []
    if any(module.startswith("nvidia") for module in unloading):
        units += [unit for unit in _NVIDIA if is_installed(host, unit)]
    return units


def _unloading(host: Host, cards: list[Function], options: Options) -> list[str]:
    """The modules to unload, in their order."""
    named = options.modules
    if named is None:
        # Its remove routine waits in the kernel, forever, while nvidia's other modules use it.
        drivers = [card.driver for card in cards if card.driver]
        found = [modules.of_driver(host, driver) for driver in drivers if driver == "nvidia"]
        named = tuple(module for module in found if module)
    order: list[str] = []
    for name in named:
        if not modules.is_known(host, name) and not modules.is_loaded(host, name):
            raise HookError(
                f"this kernel has no module {name!r}",
                "correct modules in [session]",
            )
        order += [module for module in modules.stack(host, name) if module not in order]
    return order


def _console(host: Host, unloading: list[str]) -> Iterator[Step]:
    """The step for the text console. There is none if the console could not be bound again by hand
    and only the card's driver holds it: it then goes with the driver, and comes back with it."""
    if not framebuffer_switches(host):
        return
    by_hand = bool(unloading) or can_be_bound_again(host)
    yield Step("session", Console(), Override(UNBOUND) if by_hand else Exclusive())
