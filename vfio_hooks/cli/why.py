"""`vfio-hooks why`: what the logs say about a VM's last start, explained."""

import argparse
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from time import time

from vfio_hooks.cli import domains, xml
from vfio_hooks.cli.common import Verbs, add_json, add_verb
from vfio_hooks.cli.metavars import FILE, VM
from vfio_hooks.cli.terminal import clean, paint, say, say_json, wrapped
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.log.history import Past, events, read
from vfio_hooks.plural import counted, verb
from vfio_hooks.why import Told, explain
from vfio_hooks.why.lines import QEMU_LOGS, Line, of_boot, qemu_log, since

_ONE_START = 600
"""If a `prepare` and a start of QEMU are at most so many seconds apart, they are one start."""
_EPILOG = f"""\
With a VM it reads the kernel's log, {QEMU_LOGS}/VM.log, libvirt's log and the hook's log, from the
VM's last start on. Lines that it knows are followed by what they mean and what to do. Other lines
about the VM or its devices are shown as they are.

Without a VM it reads the kernel's log of this boot and the previous one, and shows only the lines
that it knows. Without a systemd journal, only the kernel's log of this boot can be read.

Some failures are only shown by the program that asked for the start; --file explains these.

examples:
  vfio-hooks why win11
  virsh start win11 2>&1 | vfio-hooks why --file -
  vfio-hooks why                           after a crash of the host
  vfio-hooks why win11 --json | jq '.lines[] | select(.name).name'
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "why",
        run,
        line="explain what the logs say about a VM's last start",
        description="Explain what the kernel, QEMU, libvirt and the hook have logged since the "
        "last start of a VM.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name of the VM")
    parser.add_argument(
        "--file",
        metavar=FILE,
        help='explain the lines of a file, such as what virsh said; "-": standard input',
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    if arguments.vm and arguments.file:
        raise HookError("a VM and --file cannot be used together", "leave out one of them")
    if arguments.file:
        told, of = _of_file(arguments.file), "of this text"
    elif arguments.vm:
        told, of = _of_vm(arguments.vm), f"since the last start of {clean(arguments.vm)}"
    else:
        told, of = _of_host(), "of this boot and the last one"
    if arguments.json:
        say_json({"vm": arguments.vm, "lines": [_as_json(one) for one in told]})
    else:
        _show(told, of)
    return 0


def _of_file(path: str) -> list[Told]:
    text = xml.from_file(path).decode(errors="replace")
    lines = (Line(time(), "text", line.strip()) for line in text.splitlines())
    return [one for one in explain(lines) if one.known]


def _of_host() -> list[Told]:
    return [one for boot in (-1, 0) for one in explain(of_boot(boot)) if one.known]


def _of_vm(vm: str) -> list[Told]:
    own = qemu_log(vm)
    begin = _last_start(vm, own)
    if begin is None:
        raise HookError(
            f"the logs do not go back to a start of {vm}",
            "vfio-hooks why, without a VM, explains the kernel's log of this boot",
        )
    # The journal is read a second time, because only the first read shows how far back to look.
    # If a start was refused before QEMU ran, QEMU's log still ends with the start before it.
    lines = [line for line in own if line.time >= begin] + since(begin, vm)
    return explain(sorted(lines, key=lambda line: line.time), _devices(vm))


def _last_start(vm: str, own: Sequence[Line]) -> float | None:
    """When the last start began, in seconds since the epoch: at the hook's `prepare` or, for a VM
    without vfio-hooks, when libvirt ran QEMU. None if no log has it."""
    prepared = _last_prepare(vm)
    if not own or prepared is None:
        return own[0].time if own else prepared
    # QEMU is run some time after the `prepare` of the same start.
    return prepared if prepared > own[0].time - _ONE_START else own[0].time


def _last_prepare(vm: str) -> float | None:
    past: list[Past] = []
    with suppress(HookError):
        past = [one for one in events(read(None), vm) if one.event == "prepare"]
    begins = [one.begin / 1_000_000 for one in past if one.event_of == vm]
    return begins[-1] if begins else None


def _devices(vm: str) -> list[str]:
    """The addresses of the passed PCI functions, if libvirt can be asked."""
    with suppress(HookError):
        return [one.address for one in domains.defined(vm, Host("/"), xml.SYSTEM).domain.pci]
    return []


def _show(told: Sequence[Told], of: str) -> None:
    for one in told:
        _show_line(one)
    known = sum(one.known is not None for one in told)
    if known:
        say(f"{counted(known, 'line')} {of} {verb(known)} explained above")
    else:
        say(f"no line {of} is a known fault")


def _show_line(one: Told) -> None:
    when = datetime.fromtimestamp(one.line.time).astimezone()
    times = f" ({one.count} times)" if one.count > 1 else ""
    head = f"{paint(f'{when:%F %T}', 'dim')} {one.line.source:7}"
    text = f"{clean(one.line.text)}{times}"
    say(f"{head} {paint(text, 'bold') if one.known else text}")
    if one.known:
        for line in (*wrapped("  means: ", one.meaning), *wrapped("  do:    ", one.remedy)):
            say(line)


def _as_json(one: Told) -> dict[str, object]:
    found: dict[str, object] = {
        "time": datetime.fromtimestamp(one.line.time).astimezone().isoformat(),
        "source": one.line.source,
        "text": one.line.text,
        "count": one.count,
        "name": None,
    }
    if one.known:
        found |= {
            "name": one.known.name,
            "meaning": one.meaning,
            "remedy": one.remedy,
            "printed_by": one.known.source,
        }
    return found
