"""A VM's events and their steps, as they were logged in the systemd journal.

Each event has a process of its own, so lines with the same process belong together. Lines of the
VM's own executables are found by their stream, which that process opened; see
vfio_hooks/hook/scripts.py.
Anybody can write to the journal, under any identifier. So only lines that root wrote count, and
streams that root opened, which may have lines of commands that an executable ran as a user.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vfio_hooks.commands import find
from vfio_hooks.commands.by_sh import run
from vfio_hooks.errors import CommandFailed, HookError
from vfio_hooks.log import IDENTIFIER, WARNING
from vfio_hooks.record import record

MOST = 50_000
"""How many of the journal's newest lines are read. A VM on a host with thousands of interrupts logs
a thousand lines when it starts."""
_SECONDS = 60
_FIELDS = (
    "MESSAGE",
    "PRIORITY",
    "VFIO_HOOKS_VM",
    "VFIO_HOOKS_EVENT",
    "VFIO_HOOKS_EVENT_OF",
    "_PID",
    "_UID",
    "_BOOT_ID",
    "_STREAM_ID",
    "_SOURCE_REALTIME_TIMESTAMP",
)


@record
class Line:
    """One line, with its time in microseconds since 1970. `output` says that one of the VM's own
    executables printed it."""

    time: int
    text: str
    warning: bool = False
    output: bool = False


@record
class Past:
    """An event as it was handled. It may be an event of another VM, `event_of`, because the next
    event of any VM undoes what was cut off."""

    event: str
    event_of: str
    lines: tuple[Line, ...]

    @property
    def begin(self) -> int:
        return self.lines[0].time

    def after(self, line: Line) -> float:
        """The milliseconds from the beginning of the event to one of its lines."""
        return (line.time - self.begin) / 1000


def read(since: str | None) -> str:
    """The journal's lines of vfio-hooks, as JSON. Raises HookError."""
    if find("journalctl") is None:
        raise HookError(
            "this host has no journalctl", "events are only logged to the systemd journal"
        )
    argv = ["journalctl", "--output=json", "--all", f"--identifier={IDENTIFIER}"]
    argv += [f"--lines={MOST}", "--quiet", f"--output-fields={','.join(_FIELDS)}"]
    argv += [f"--since={since}"] if since else []
    try:
        return run(argv, _SECONDS)
    except CommandFailed as error:
        if "permission" in error.said.lower():
            raise _closed() from None
        # The command line is long, and only the reason at its end matters.
        raise HookError(f"journalctl: {error.why}") from None


def _closed() -> HookError:
    return HookError(
        "you may not read the systemd journal",
        "try again with sudo, or join the group systemd-journal",
    )


def events(text: str, vm: str) -> list[Past]:
    """What happened to a VM, oldest first, out of lines of `journalctl -o json`."""
    entries = list(entries_of(text))
    groups: dict[tuple[str, ...], list[Line]] = {}
    for entry in entries:
        if text_of(entry, "VFIO_HOOKS_VM") == vm and is_roots(entry):
            groups.setdefault(_key(entry), []).append(_line(entry, vm))
    for key, lines in _outputs(entries, groups, vm):
        groups[key] += lines
    found = []
    for (_, _, event, event_of), lines in groups.items():
        # Lines from two sockets may reach the journal in another order than they were written.
        ordered = sorted(lines, key=lambda line: line.time)
        found.append(Past(event, event_of or vm, tuple(ordered)))
    return sorted(found, key=lambda past: past.begin)


def _outputs(
    entries: Sequence[dict[str, Any]], groups: dict[tuple[str, ...], list[Line]], vm: str
) -> Iterable[tuple[tuple[str, ...], list[Line]]]:
    """Lines of executables with the key of the event that ran them."""
    streams: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        if stream := text_of(entry, "_STREAM_ID"):
            streams.setdefault(stream, []).append(entry)
    for title, *lines in streams.values():
        place = (text_of(title, "_BOOT_ID"), text_of(title, "_PID"))
        keys = [key for key in groups if key[:2] == place and key[3] in ("", vm)]
        if keys and lines and is_roots(title):
            when = _time(title)
            # After some weeks the kernel uses a process's number again.
            yield (
                min(keys, key=lambda key: abs(groups[key][0].time - when)),
                [_line(entry, "", output=True) for entry in lines],
            )


def entries_of(text: str) -> Iterable[dict[str, Any]]:
    """The entries in what `journalctl -o json` prints. Raises HookError."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.startswith("{"):
            continue
        try:
            entry = json.loads(line)
            _time(entry)
        except (ValueError, KeyError, TypeError):
            raise HookError(f"line {number} is not one of `journalctl -o json`") from None
        yield entry


def is_roots(entry: dict[str, Any]) -> bool:
    """Whether root wrote it: anybody can write to the journal, under any identifier."""
    return text_of(entry, "_UID") == "0"


def _key(entry: dict[str, Any]) -> tuple[str, ...]:
    names = ("_BOOT_ID", "_PID", "VFIO_HOOKS_EVENT", "VFIO_HOOKS_EVENT_OF")
    return tuple(text_of(entry, name) for name in names)


def _line(entry: dict[str, Any], vm: str, output: bool = False) -> Line:
    text = text_of(entry, "MESSAGE").removeprefix(f"{vm}: " if vm else "")
    warning = int(text_of(entry, "PRIORITY") or 6) <= WARNING
    return Line(_time(entry), text, warning, output)


def _time(entry: dict[str, Any]) -> int:
    """When a line was written, if the kernel said so, or else when the journal received it."""
    return int(entry.get("_SOURCE_REALTIME_TIMESTAMP") or entry["__REALTIME_TIMESTAMP"])


def text_of(entry: dict[str, Any], name: str) -> str:
    """A field's text: journalctl writes bytes as a list of numbers, and several values of one
    field as a list of these."""
    value = entry.get(name)
    if isinstance(value, list):
        if all(isinstance(part, int) for part in value):
            return bytes(value).decode(errors="replace")
        value = value[-1]
    return value if isinstance(value, str) else ""
