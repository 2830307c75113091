"""A VM's executables, qemu.d/<VM>/<operation>/<sub-operation>, as VFIO-Tools made them common.

That is a file or a folder of files. They get what libvirt gives to a hook: its arguments, the
domain's XML on standard input, its environment and working folder. What they print goes to the
systemd journal, never to libvirt, which would take it for XML.
"""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import IO

from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.log import IDENTIFIER, Log
from vfio_hooks.trust import trusted

STREAM = "/run/systemd/journal/stdout"


def find(folder: str, event: Event) -> list[str]:
    """The executables of a VM for an event, in the order of their names' bytes.

    Raises HookError for one that somebody else than root could have written.
    """
    place = f"{folder}/{event.op}/{event.subop}"
    found = list(_executables(place))
    for path in found:
        trusted(path, _hooks(folder))
    return found


def run(paths: list[str], event: Event, xml: bytes, seconds: float, log: Log) -> None:
    """Run executables one after the other.

    Raises HookError for the first that exits non-zero, cannot be run, or is not done after
    `seconds`: it is killed then, with its process group. What they leave running in the
    background is neither waited for nor killed.
    """
    for path in paths:
        log.info(f"{event.vm}: running {path}", event.vm)
        _run(path, event, xml, seconds)


def run_all(folder: str, event: Event, xml: bytes, seconds: float, log: Log) -> list[HookError]:
    """Run a VM's executables for an event that nothing can stop: each that root alone can have
    written, whatever becomes of the others. Returns what failed."""
    problems = []
    for path in _executables(f"{folder}/{event.op}/{event.subop}"):
        try:
            trusted(path, _hooks(folder))
            run([path], event, xml, seconds, log)
        except HookError as error:
            problems.append(error)
    return problems


def _hooks(folder: str) -> str:
    return os.path.dirname(os.path.dirname(folder))


def _run(path: str, event: Event, xml: bytes, seconds: float) -> None:
    # Through sh, which AppArmor's profile of libvirtd lets run unconfined: run directly, a script
    # would inherit a profile in which nothing below /usr/local can be executed.
    argv = ["/bin/sh", "-c", 'exec "$0" "$@"', path, event.vm, event.op, event.subop, event.extra]
    with _journal_stream(f"{event.vm}: output of {path}") as output:
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=output.fileno(),
                stderr=output.fileno(),
                start_new_session=True,
            )
        except OSError as error:
            raise HookError(f"{path}: cannot be run: {error.strerror}") from None
    try:
        # No pipe is read, so a child in the background that keeps the output open, which goes
        # straight to the systemd journal, does not hold us up.
        process.communicate(xml, timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise HookError(
            f"{path}: not done after {seconds:g} s, so it was killed",
            "script_timeout in vm.toml says how long it may take",
        ) from None
    if process.returncode:
        raise HookError(
            f"{path}: {_ending(process.returncode)}",
            f"journalctl -t {IDENTIFIER} has what it printed",
        )


def _ending(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"


def _executables(place: str) -> Iterator[str]:
    if os.path.isfile(place):
        yield from [place] if os.access(place, os.X_OK) else []
    elif os.path.isdir(place):
        for name in sorted(os.listdir(place), key=os.fsencode):
            path = f"{place}/{name}"
            # An editor's backup is not a second script.
            hidden = name.startswith(".") or name.endswith("~")
            if not hidden and os.path.isfile(path) and os.access(path, os.X_OK):
                yield path


def _journal_stream(title: str) -> socket.socket | IO[bytes]:
    """A stream that the systemd journal reads line by line, for as long as anybody has it open;
    /dev/null where there is no systemd journal.

    The header is systemd's stdout protocol: identifier, unit, priority, then four switches. The
    protocol has no field for the VM; but the journal tells which process wrote a line, and the
    title is of this process, so `vfio-hooks log` finds the event that a stream belongs to.
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
