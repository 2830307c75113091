"""`vfio-hooks verify`: whether a running VM has its CPUs to itself, and its memory near them."""

import argparse
from collections.abc import Sequence

from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, need_root, paths
from vfio_hooks.cli.metavars import FILE, VM
from vfio_hooks.cli.terminal import Style, clean, paint, say, say_json
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.log import SystemdJournal
from vfio_hooks.plugins.verify import LONGEST
from vfio_hooks.record import asdict
from vfio_hooks.verify import Verdict, verify

_COLORS: dict[str, Style] = {"ok": "green", "note": "yellow", "wrong": "red"}
_EPILOG = """\
"ok" is as it should be, a "note" may be intended, and "wrong" costs the VM time: a vCPU that is not
where its pin says, memory far from the vCPUs, other programs or the host's devices on their CPUs.
Watch while the host is as busy as it usually is. The exit code is 1 if anything is wrong.

With --trace nothing is judged. Instead, each time that a CPU of the VM runs something else than its
vCPU (a stall) is measured to the microsecond, and the output says what ran and how to keep it away.
The columns "50 %", "99 %" and "99.9 %" say how long, in µs, this part of the stalls lasted at most.
Measuring takes about 0.2 % of one CPU for each 1,000 events a second.

examples:
  vfio-hooks verify win11
  vfio-hooks verify win11 --trace --seconds 30
  vfio-hooks verify win11 --trace --json > after.json
  vfio-hooks verify --compare before.json after.json
  vfio-hooks verify win11 --seconds 60
  vfio-hooks verify win11 --json | jq '.verdicts[] | select(.level == "wrong")'
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "verify",
        run,
        line="see whether anything disturbs a running VM",
        description="Watch a running VM: where its threads may run and do run, where its memory\n"
        "is, and what else runs on its CPUs or interrupts them.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name of a running VM")
    parser.add_argument(
        "--seconds", type=_seconds, default=5.0, metavar="S", help="how long to watch (default: 5)"
    )
    parser.add_argument(
        "--trace",
        action="store_true",
        help="measure with the kernel's tracer how often, and for how long, something else had "
        "the CPUs",
    )
    parser.add_argument(
        "--svg", metavar=FILE, help="with --trace: write a histogram of these times there"
    )
    parser.add_argument(
        "--compare",
        metavar=("BEFORE", "AFTER"),
        nargs=2,
        help="print two measurements side by side, from files of --trace --json",
    )
    add_paths(parser, "root")
    add_json(parser)
    parser.add_argument(
        "--log", action="store_true", help="write to this host's log, not to the terminal"
    )


def run(arguments: argparse.Namespace) -> int:
    if arguments.compare:
        from vfio_hooks.cli.traced import compare

        return compare(*arguments.compare)
    if arguments.vm is None:
        raise HookError("which VM?", "give the name of a running VM")
    host = paths(arguments).host()
    if host.is_this_machine:
        need_root("verify")
    if arguments.trace:
        return _trace(arguments, host)
    verdicts = verify(host, arguments.vm, arguments.seconds)
    if arguments.log:
        _log(arguments.vm, verdicts)
    elif arguments.json:
        say_json({"vm": arguments.vm, "verdicts": [asdict(verdict) for verdict in verdicts]})
    else:
        for verdict in verdicts:
            level = paint(f"{verdict.level:5}", _COLORS[verdict.level])
            say(f"{level} {clean(f'{verdict.subject}: {verdict.text}')}")
    return int(any(verdict.level == "wrong" for verdict in verdicts))


def _trace(arguments: argparse.Namespace, host: Host) -> int:
    from vfio_hooks.cli.traced import measure, tell

    if not host.is_this_machine:
        raise HookError(f"{arguments.root} is not a running host", "leave out --trace")
    report = measure(host, arguments.vm, arguments.seconds)
    return tell(report, arguments.json, arguments.svg)


def _log(vm: str, verdicts: Sequence[Verdict]) -> None:
    log = SystemdJournal(event="started", event_of=vm)
    for verdict in verdicts:
        tell = log.warning if verdict.level == "wrong" else log.info
        tell(f"{vm}: verify: {verdict.level}: {verdict.subject}: {verdict.text}", vm)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to {LONGEST}")
    return seconds
