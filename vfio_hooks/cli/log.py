"""`vfio-hooks log`: what happened at each event of a VM, and how long it took."""

import argparse
import os
from collections.abc import Sequence
from datetime import datetime

from vfio_hooks.cli.common import Verbs, add_json, add_verb
from vfio_hooks.cli.metavars import FILE, VM
from vfio_hooks.cli.terminal import clean, paint, say, say_json
from vfio_hooks.errors import HookError, reason
from vfio_hooks.log.history import MOST, Line, Past, events, read

_EPILOG = f"""\
This comes from the systemd journal, of which the newest {MOST} lines of vfio-hooks are read. Every
line has its time and the milliseconds since the event began. A "|" marks what the VM's own
executables printed. Events in which there was nothing to do are not shown.

examples:
  vfio-hooks log win11
  vfio-hooks log win11 -n 1                    the last event
  vfio-hooks log win11 --since "2 hours ago"
  journalctl -o json -t vfio-hooks > file      then elsewhere: vfio-hooks log win11 --file file
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "log",
        run,
        line="show what was done at each event of a VM, and when",
        description="Show what the hook did at the last events of a VM, and how long it took.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, help="name of the VM")
    parser.add_argument(
        "--since", metavar="TIME", help='as for journalctl: "yesterday", "2026-01-31 18:00"'
    )
    parser.add_argument(
        "-n",
        "--events",
        metavar="N",
        type=_number,
        default=10,
        help="how many of the last events to show (default: 10)",
    )
    parser.add_argument(
        "--file",
        metavar=FILE,
        help="a file made by `journalctl -o json` to read instead of the journal",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.file is not None and arguments.since is not None:
        raise HookError("--since works with the journal, not with --file", "leave it out")
    text = _text(arguments)
    found = events(text, arguments.vm)[-arguments.events :]
    if not found and os.geteuid() and arguments.file is None:
        # journalctl prints nothing and succeeds if it is not allowed to read any file.
        raise HookError(
            f"the journal has nothing about {arguments.vm} that you are allowed to read",
            "try again with sudo",
        )
    if arguments.json:
        say_json({"vm": arguments.vm, "events": [_as_json(past) for past in found]})
    else:
        _show(found, arguments.vm)
    return 0


def _text(arguments: argparse.Namespace) -> str:
    if arguments.file is None:
        return read(arguments.since)
    try:
        with open(arguments.file, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise HookError(f"{arguments.file}: cannot be read: {reason(error)}") from None


def _show(found: Sequence[Past], vm: str) -> None:
    if not found:
        say(f"nothing is logged about {clean(vm)}")
    for position, past in enumerate(found):
        if position:
            say()
        first, *others = past.lines
        # The first line is the event itself, with the reason of an end: "release (shutdown)".
        named = past.event_of == vm and first.text.split(" ")[0] == past.event
        is_title = named and not first.warning
        title = first.text if is_title else _title(past, vm)
        took = f"{past.after(past.lines[-1]):.0f} ms"
        say(f"{paint(f'{_when(first):%F %T} {clean(title)}', 'bold')}, {took}")
        for line in others if is_title else past.lines:
            _show_line(past, line)


def _show_line(past: Past, line: Line) -> None:
    time = f"{_when(line):%T.%f}"[:-3]
    after = f"+{past.after(line):.0f} ms"
    text = clean(line.text.replace("\t", " "))
    if line.output:
        text = f"| {text}"
    elif line.warning:
        text = paint(f"warning: {text}", "yellow")
    say(f"{paint(time, 'dim')} {after:>9}  {text}", 1)


def _title(past: Past, vm: str) -> str:
    name = past.event or "an unknown event"
    return name if past.event_of == vm else f"{name} of {past.event_of}"


def _as_json(past: Past) -> dict[str, object]:
    return {
        "event": past.event,
        "vm": past.event_of,
        "begin": _when(past.lines[0]).isoformat(),
        "milliseconds": past.after(past.lines[-1]),
        "lines": [
            {
                "time": _when(line).isoformat(),
                "milliseconds": past.after(line),
                "text": line.text,
                "warning": line.warning,
                "output": line.output,
            }
            for line in past.lines
        ],
    }


def _when(line: Line) -> datetime:
    return datetime.fromtimestamp(line.time / 1_000_000).astimezone()


def _number(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of events")
    return int(text)
