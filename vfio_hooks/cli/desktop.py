"""`vfio-hooks desktop`: has a desktop leave a VM's graphics card alone from its start on."""

import argparse

from vfio_hooks.cli import xml
from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root, paths
from vfio_hooks.cli.desktop_files import (
    Setting,
    compositor,
    is_in_force,
    is_written,
    remove,
    settings,
    write,
)
from vfio_hooks.cli.domains import defined, from_file
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import clean, say
from vfio_hooks.errors import HookError
from vfio_hooks.host import WritableHost
from vfio_hooks.host.desktops import rungs
from vfio_hooks.host.pci import passed_displays
from vfio_hooks.host.sessions import choose

_EPILOG = """\
Most desktops close a card when [display] has udev tell that it has gone; this is for one that does
not, as GNOME, or for one that had better never open it. The setting takes a new login, and is
gone again with --remove. man vfio-hooks.toml has which desktop needs what.

examples:
  vfio-hooks desktop win11                     what has the card open, and what would be written
  sudo vfio-hooks desktop win11 --write
  sudo vfio-hooks desktop win11 --remove
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "desktop",
        run,
        line="have a desktop leave a VM's graphics card alone",
        description="Show which programs have a VM's graphics card open and how each lets go of\n"
        "it, and write the setting with which the desktop never opens it.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar="VM", nargs="?", help="name or UUID; with --xml optional")
    parser.add_argument("--xml", metavar="FILE", help='the domain\'s XML; "-": standard input')
    parser.add_argument(
        "--connect",
        metavar="URI",
        default=xml.SYSTEM,
        help="the libvirt to ask (default: %(default)s)",
    )
    parser.add_argument("--user", metavar="NAME", help="whose desktop, where there are several")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write the setting, on yes")
    what.add_argument("--remove", action="store_true", help="remove what --write has written")
    parser.add_argument("--yes", action="store_true", help="with --write: do not ask")
    add_paths(parser, "root")


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    host = here.host()
    if arguments.xml is None and arguments.vm is None:
        raise HookError("which VM?", "give its name, or its XML with --xml FILE")
    if arguments.xml is None:
        domain = defined(arguments.vm, host, arguments.connect).domain
    else:
        domain = from_file(arguments.xml, arguments.vm).domain
    cards = [card.address for card in passed_displays(host, domain)]
    if not cards:
        raise HookError(f"domain {domain.name} passes no graphics card of this host through")
    session = choose(host, arguments.user)
    wanted = settings(host, domain, session)
    if arguments.write or arguments.remove:
        need_root("desktop --write" if arguments.write else "desktop --remove")
        if not host.is_this_machine:
            raise HookError("nothing is written on another host", "leave --root out")
    if arguments.remove:
        _remove(host, wanted)
        return 0
    for card in cards:
        for rung in rungs(host, card):
            say(clean(str(rung)))
    say(clean(f"{session} is drawn by {compositor(host, session)}"))
    for setting in wanted:
        if setting.user and is_written(host, setting):
            has = "has it" if is_in_force(host, session, setting) else "takes it at a new login"
            say(clean(f"{setting.path} is written: the desktop {has}"))
    return _write(host, wanted, arguments)


def _write(host: WritableHost, wanted: list[Setting], arguments: argparse.Namespace) -> int:
    for setting in wanted:
        say()
        say(clean(f"{setting.path} {'has' if is_written(host, setting) else 'would have'}:"))
        for line in setting.text.splitlines():
            say(clean(line), 1)
    if not arguments.write:
        return 0
    if not arguments.yes and not ask("write this?", "--yes"):
        say("nothing was changed")
        return 1
    for setting in wanted:
        write(host, setting)
    say("written: it takes a new login, after a restart of the host or")
    say("udevadm control --reload && udevadm trigger --subsystem-match=drm", 1)
    return 0


def _remove(host: WritableHost, wanted: list[Setting]) -> None:
    gone = [setting.path for setting in wanted if remove(host, setting)]
    for path in gone:
        say(clean(f"{path}: removed"))
    say("it takes a new login" if gone else "there is nothing to remove")
