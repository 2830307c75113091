"""A VM's executables, qemu.d/<VM>/<operation>/<sub-operation>, as VFIO-Tools made them common.

Each is a file, or a folder of files. They get what libvirt gives to a hook: its arguments, the
domain's XML on standard input, its environment and working folder. What they print goes to the
systemd journal, and never to libvirt, which would take it for XML. If one fails, the last line that
it printed on standard error is part of the error.
"""

import fcntl
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from vfio_hooks.commands.executable import command, fault
from vfio_hooks.commands.spawn import start, wait
from vfio_hooks.config.trust import trusted
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.log import IDENTIFIER, Log
from vfio_hooks.wait import Signals, until

STREAM = "/run/systemd/journal/stdout"
_GRACE = 3.0
"""Seconds that an executable has to end when the hook is told to."""
_LONGEST = 200
"""How many characters of an executable's last line an error has; the log has all of it."""


def find(folder: str, event: Event) -> list[str]:
    """The executables of a VM for an event, in the order of their names' bytes.

    Raises HookError for one that somebody other than root could have written, and for a link that
    leads nowhere.
    """
    found = list(executables(f"{folder}/{event.op}/{event.subop}"))
    for path in found:
        _check(path, folder)
    return found


def run(paths: list[str], event: Event, xml: bytes, seconds: float, log: Log) -> None:
    """Run executables one after the other.

    Raises HookError for the first that exits non-zero, cannot be run, or is not finished after
    `seconds`, when it is killed with its process group. Raises Interrupted if a signal ends this
    process, after that group has ended. What they leave running in the background is neither waited
    for nor killed, but its output on standard error is lost.
    """
    for path in paths:
        log.info(f"{event.vm}: running {path}", event.vm)
        _run(path, event, xml, seconds)


def run_all(folder: str, event: Event, xml: bytes, seconds: float, log: Log) -> list[HookError]:
    """Run a VM's executables for an event that nothing can stop: each one that only root can have
    written, even if others fail. Returns what failed."""
    problems = []
    for path in executables(f"{folder}/{event.op}/{event.subop}"):
        try:
            _check(path, folder)
            run([path], event, xml, seconds, log)
        except Interrupted:
            raise
        except HookError as error:
            problems.append(error)
    return problems


def _check(path: str, folder: str) -> None:
    if os.path.islink(path) and not os.path.exists(path) and (wrong := fault(path, Host())):
        raise wrong
    trusted(path, os.path.dirname(os.path.dirname(folder)))


def _run(path: str, event: Event, xml: bytes, seconds: float) -> None:
    argv = [*command(path), event.vm, event.op, event.subop, event.extra]
    signals = Signals()
    with (
        # Before it is started, because the first thing that it does may be to end the hook.
        signals.caught(),
        _input(xml) as stdin,
        _journal_stream(f"{event.vm}: output of {path}") as output,
        _Errors(output) as errors,
    ):
        files = (stdin, output.fileno(), errors.fileno())
        try:
            pid = start(argv, os.environ, files)
        except OSError as error:
            raise HookError(f"{path}: cannot be run: {error.strerror}") from None
        try:
            code = _await(pid, seconds, signals, errors)
        except TimeoutError:
            _kill(pid)
            raise HookError(
                f"{path}: not finished after {seconds:g} s, so it was killed",
                "script_timeout in vm.toml sets how long it may take",
            ) from None
        except Interrupted as error:
            _kill(pid, _GRACE)
            raise Interrupted(
                f"{path}: {error.problem}, together with everything that it had started"
            ) from None
        finally:
            errors.pass_on()
        if code:
            raise _failure(path, code, errors.last_line())


@contextmanager
def _input(xml: bytes) -> Iterator[int]:
    """An executable's standard input: a file in memory, because a pipe would have to be filled
    while it runs."""
    with open(os.memfd_create("stdin"), "w+b") as file:
        file.write(xml)
        file.seek(0)
        yield file.fileno()


def _await(pid: int, seconds: float, signals: Signals, errors: "_Errors") -> int:
    """The exit code of a process. Raises TimeoutError and Interrupted."""

    def look() -> None:
        signals.check()
        errors.pass_on()

    return wait(pid, seconds, look)


def _kill(pid: int, grace: float = 0) -> None:
    """End a process with its group. With `grace` they get so many seconds to end by themselves."""
    has_ended = False
    if grace:
        os.killpg(pid, signal.SIGTERM)
        has_ended = until(lambda: bool(os.waitpid(pid, os.WNOHANG)[0]), grace)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    if not has_ended:
        os.waitpid(pid, 0)


def _failure(path: str, code: int, last_line: str) -> HookError:
    ending = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
    if wrong := fault(path, Host()):
        return HookError(wrong.problem.replace(": ", f": {ending}: ", 1), wrong.hint)
    hint = f"journalctl -t {IDENTIFIER} has what it printed" if os.path.exists(STREAM) else ""
    return HookError(f"{path}: {ending}" + (f": {last_line}" if last_line else ""), hint)


class _Errors:
    """An executable's standard error: a file in memory without a name, because a pipe would have to
    be emptied as long as a child in the background has it open."""

    def __init__(self, output: socket.socket | IO[bytes]) -> None:
        self._output = output
        self._file = os.memfd_create("stderr")
        # Others may open /dev/stderr, which empties it, and go on from there.
        fcntl.fcntl(self._file, fcntl.F_SETFL, os.O_APPEND)
        self._passed_on = 0

    def __enter__(self) -> "_Errors":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def fileno(self) -> int:
        return self._file

    def pass_on(self) -> None:
        """Pass what is new on to the log, without waiting for a log that does not read."""
        if not isinstance(self._output, socket.socket):
            return
        if os.fstat(self._file).st_size < self._passed_on:
            self._passed_on = 0
        try:
            while part := os.pread(self._file, 1 << 16, self._passed_on):
                self._passed_on += self._output.send(part, socket.MSG_DONTWAIT)
        except OSError:
            return

    def last_line(self) -> str:
        """The last line that is not blank, as a person can read it; "" for none."""
        size = os.fstat(self._file).st_size
        text = os.pread(self._file, 1 << 12, max(0, size - (1 << 12))).decode(errors="replace")
        plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)
        lines = (
            "".join(one if one.isprintable() else " " for one in line).strip()
            for line in re.split(r"[\r\n]", plain)
        )
        return ([line for line in lines if line] or [""])[-1][:_LONGEST]


def executables(place: str) -> Iterator[str]:
    """The files to run: one file, or those of a folder, in the order of their names' bytes."""
    if os.path.isdir(place):
        for name in sorted(os.listdir(place), key=os.fsencode):
            # An editor's backup is not a second script.
            if not name.startswith(".") and not name.endswith("~"):
                yield from _executable(f"{place}/{name}")
    else:
        yield from _executable(place)


def _executable(path: str) -> Iterator[str]:
    """A file, if it is to be run. A link that leads nowhere counts, so that it is reported."""
    is_file = os.path.isfile(path) and os.access(path, os.X_OK)
    if is_file or (os.path.islink(path) and not os.path.exists(path)):
        yield path


def _journal_stream(title: str) -> socket.socket | IO[bytes]:
    """A stream that the systemd journal reads line by line, as long as any process has it open;
    /dev/null if there is no systemd journal.

    The header is systemd's stdout protocol: identifier, unit, priority, then four switches. The
    protocol has no field for the VM. But the journal knows which process wrote a line, and this
    process writes the title, so `vfio-hooks log` finds the event that a stream belongs to.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(STREAM)
        header = f"{IDENTIFIER}\n\n6\n0\n0\n0\n0\n"
        stream.sendall(f"{header}{' '.join(title.split())}\n".encode(errors="replace"))
    except OSError:
        stream.close()
        return open(os.devnull, "wb")
    return stream
