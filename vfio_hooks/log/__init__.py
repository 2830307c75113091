"""Logs events and steps to the systemd journal, with the identifier vfio-hooks.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import _socket as socket  # socket itself makes enums of all constants, and imports selectors
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol
else:
    Protocol = object

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "vfio-hooks"
WARNING, INFO = 4, 6  # syslog(3) priorities
_FEW = 2
_TIMEOUT = struct.pack("ll", 1, 0)
"""A second, as the struct timeval of socket(7). settimeout would cost a poll(2) for each line."""


class Log(Protocol):
    """Takes one line at a time, and the VM that it is about ("" for none)."""

    def info(self, text: str, vm: str = "") -> None: ...

    def warning(self, text: str, vm: str = "") -> None: ...


class Folded:
    """A log that does not repeat itself. Of warnings that differ only in numbers, as for each
    interrupt that irqbalance took back, the first is logged at once. `flush` logs the others, in
    one line if they are many."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._held: dict[tuple[str, str], list[str]] = {}
        self._remarks: dict[tuple[str, str], list[str]] = {}

    def info(self, text: str, vm: str = "") -> None:
        self._log.info(text, vm)

    def warning(self, text: str, vm: str = "") -> None:
        kind = (vm, _without_numbers(text))
        if kind in self._held:
            self._held[kind].append(text)
        else:
            self._held[kind] = []
            self._log.warning(text, vm)

    def remark(self, text: str, vm: str = "") -> None:
        """Like `info`, but logged by `flush`, and only the first of those that differ in
        numbers."""
        self._remarks.setdefault((vm, _without_numbers(text)), []).append(text)

    def flush(self) -> None:
        """Log what was held back."""
        for (vm, _), texts in self._remarks.items():
            self._log.info(texts[0] + _more(len(texts) - 1), vm)
        self._remarks.clear()
        for (vm, _), texts in self._held.items():
            if len(texts) > _FEW:
                texts = [texts[0] + _more(len(texts) - 1)]
            for text in texts:
                self._log.warning(text, vm)
        self._held.clear()


def _more(count: int) -> str:
    return f" (and {count} more like it)" if count else ""


def _without_numbers(text: str) -> str:
    import re

    return re.sub(r"[0-9][0-9,-]*", "#", text)


class SystemdJournal:
    """A log whose lines `journalctl -t vfio-hooks` shows, with the VM as VFIO_HOOKS_VM.

    A process handles one `event` of the VM `event_of`. It may first have to clean up after another
    VM, and then its lines are about that VM.

    Without systemd nothing is logged. A log that cannot be written never fails an event, and if the
    log hangs, it is waited for only once.
    """

    def __init__(self, path: str = SOCKET, event: str = "", event_of: str = "") -> None:
        self._path = path
        self._event = {"VFIO_HOOKS_EVENT": event, "VFIO_HOOKS_EVENT_OF": event_of}
        self._socket: socket.socket | None = None
        self._hangs = False

    def info(self, text: str, vm: str = "") -> None:
        self._send(INFO, text, vm)

    def warning(self, text: str, vm: str = "") -> None:
        self._send(WARNING, text, vm)

    def _send(self, priority: int, text: str, vm: str) -> None:
        fields = {
            "PRIORITY": str(priority),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "VFIO_HOOKS_VM": vm,
            **self._event,
            "MESSAGE": text,
        }
        datagram = b"".join(_field(name, value) for name, value in fields.items())
        if self._hangs:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEOUT)
            self._socket.sendto(datagram, self._path)
        except BlockingIOError:
            self._hangs = True
        except OSError:
            pass


def _field(name: str, value: str) -> bytes:
    """A field with its length, a form that works for any text."""
    data = value.encode(errors="replace")
    return name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
