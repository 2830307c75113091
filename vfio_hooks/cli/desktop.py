"""`vfio-hooks desktop`: make a desktop leave a VM's graphics card alone."""

import argparse

from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root, paths
from vfio_hooks.cli.desktop_files import (
    Setting,
    compositor,
    is_in_force,
    is_written,
    remove,
    settings,
    write,
    written,
)
from vfio_hooks.cli.domains import add_domain, one_domain
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import clean, say
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.desktops import rungs
from vfio_hooks.host.pci import passed_displays
from vfio_hooks.host.sessions import Session, choose, graphical

_EPILOG = """\
Most desktops close a card when [display] makes udev announce that it has gone. This verb is for a
desktop that does not, such as GNOME, or that should never open the card. The setting works from
the next login on. man vfio-hooks.toml says which desktop needs what. --remove needs no desktop, so
it also helps, over ssh, when the desktop does not come up with the setting.

examples:
  vfio-hooks desktop win11                     which programs have the card open, and what to write
  sudo vfio-hooks desktop win11 --write
  sudo vfio-hooks desktop win11 --remove
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "desktop",
        run,
        line="make a desktop leave a VM's graphics card alone",
        description="Show which programs have a VM's graphics card open and how each of them "
        "closes\nit, and write the setting that keeps the desktop from opening it.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name or UUID; optional with --xml")
    add_domain(parser)
    parser.add_argument("--user", metavar="NAME", help="whose desktop, if there are several")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the setting, after asking")
    what.add_argument("--remove", action="store_true", help="remove what --write has written")
    parser.add_argument("--yes", action="store_true", help="with --write: do not ask")
    add_paths(parser, "root")


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    host = here.host()
    if arguments.write or arguments.remove:
        need_root("desktop --write" if arguments.write else "desktop --remove")
        if not host.is_this_machine:
            raise HookError("a setting can only be written on this host", "leave out --root")
    if arguments.remove:
        _remove(host, written(host, arguments.user))
        return 0
    domain = one_domain(arguments, host).domain
    cards = [card.address for card in passed_displays(host, domain)]
    if not cards:
        raise HookError(f"domain {domain.name} is given no graphics card of this host")
    for card in cards:
        for rung in rungs(host, card):
            say(clean(str(rung)))
    session = _session(host, arguments.user)
    wanted = settings(host, domain, session)
    say(clean(f"{session} is drawn by {compositor(host, session)}"))
    # Links to the cards are of no use without the variables that name them.
    for setting in [one for one in wanted if one.user] or wanted:
        if is_written(host, setting):
            used = is_in_force(host, session, setting, cards)
            when = "uses it" if used else "will use it from the next login on"
            say(clean(f"{setting.path} is written: the desktop {when}"))
    return _write(host, wanted, arguments)


def _session(host: Host, user: str | None) -> Session:
    """Whose desktop is meant. Raises HookError, with hints for this verb: those of `choose` are
    for a table of vm.toml."""
    try:
        return choose(host, user)
    except HookError as error:
        if not graphical(host):
            raise HookError(error.problem, "log in on the desktop first") from None
        raise HookError(error.problem, error.hint if user else "choose one with --user") from None


def _write(host: WritableHost, wanted: list[Setting], arguments: argparse.Namespace) -> int:
    for setting in wanted:
        say()
        say(clean(f"{setting.path} {'has' if is_written(host, setting) else 'would have'}:"))
        for line in setting.text.splitlines():
            say(clean(line), 1)
    if not arguments.write:
        return 0
    if not arguments.yes and not ask("write this?"):
        say("nothing was changed")
        return 1
    for setting in wanted:
        write(host, setting)
    say("written; it works from the next login on, after a reboot of the host or")
    say("udevadm control --reload && udevadm trigger --subsystem-match=drm", 1)
    return 0


def _remove(host: WritableHost, there: list[Setting]) -> None:
    gone = [setting.path for setting in there if remove(host, setting)]
    for path in gone:
        say(clean(f"{path}: removed"))
    say("it works from the next login on" if gone else "there is nothing to remove")
