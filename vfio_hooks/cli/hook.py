"""`vfio-hooks hook`: one event of libvirt's, by hand."""

import argparse

from vfio_hooks import ENDING, PLANNED
from vfio_hooks.cli import xml
from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root, paths
from vfio_hooks.cli.forecast import forecast, tell
from vfio_hooks.cli.metavars import OPERATION, SUBOP, VM
from vfio_hooks.cli.terminal import TerminalLog, clean, say
from vfio_hooks.config import load
from vfio_hooks.domain import parse
from vfio_hooks.event import Event
from vfio_hooks.hook import handle
from vfio_hooks.hook.scripts import find
from vfio_hooks.paths import Paths

_EPILOG = """\
The arguments are those that libvirt gives its hook, and the domain's XML is on standard input.
Events: prepare, start and started change the host; stopped and release undo these changes.

examples:
  virsh dumpxml win11 | vfio-hooks hook win11 prepare begin - --dry-run
  vfio-hooks hook win11 release end - < win11.xml
  vfio-hooks hook --dry-run -- -odd-name- prepare begin - < odd.xml
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "hook",
        run,
        line="handle one event as libvirt's hook does, to find a fault",
        description="Do what the hook does at one of libvirt's events, and show it.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, help="name of the VM, as libvirt has it")
    parser.add_argument("op", metavar=OPERATION, help="prepare, start, started, stopped, release")
    parser.add_argument("subop", metavar=SUBOP, help="begin or end")
    parser.add_argument("extra", metavar="EXTRA", help='"-", or why the VM ended')
    parser.add_argument("--dry-run", action="store_true", help="only show what would be done")
    add_paths(parser, "root", "config-dir", "state-dir")


def run(arguments: argparse.Namespace) -> int:
    event = Event(arguments.vm, arguments.op, arguments.subop, arguments.extra)
    here = paths(arguments)
    if arguments.dry_run:
        return _rehearse(event, here)
    if here.host().is_this_machine:
        need_root("changing this host")
    handle(event, xml.from_file("-"), here, TerminalLog())
    return 0


def _rehearse(event: Event, here: Paths) -> int:
    config = load(here.config, event.vm)
    if event.op in ENDING:
        say(f"{event.op} undoes what `vfio-hooks status {clean(event.vm)}` shows")
    elif config is None:
        say(f"{clean(event.vm)} is not managed, so nothing is done")
    elif event.op in PLANNED:
        return tell(forecast(parse(xml.from_file("-")), config, here, [event]))
    scripts = find(config.folder, event) if config else []
    for path in scripts:
        say(f"{clean(event.op)} runs {clean(path)}")
    if config and event.op not in ENDING and not scripts:
        say(f"nothing is done at {clean(event.op)}")
    return 0
