"""Starts a program and waits for it. Importing the module subprocess would take longer than most
programs that an event starts."""

from __future__ import annotations

import os
import select
import time

from vfio_hooks import IGNORED_SIGNALS
from vfio_hooks.wait import POLL, until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_KILL = 9
_MOST = 1 << 20
"""More than a pipe holds: one read of this many bytes empties it."""
_SHORT = 0.0005
"""Seconds from the first look at a program to the second."""
_GRACE = 1.0
"""Seconds for a killed program to end. A program that waits in the kernel may never end."""


def start(argv: list[str], environment: Mapping[str, str], files: Sequence[int]) -> int:
    """Start the program at the path argv[0] in a session of its own, with these descriptors as its
    standard input, output and error. Returns its process. Raises OSError if it cannot be
    started, and ValueError for an argument that no program can be given."""
    actions = [(os.POSIX_SPAWN_DUP2, file, to) for to, file in enumerate(files)]
    return os.posix_spawn(
        argv[0], argv, environment, file_actions=actions, setsid=True, setsigdef=IGNORED_SIGNALS
    )


def wait(pid: int, seconds: float, look: Callable[[], None]) -> int:
    """The exit code of a child, or the negative number of the signal that ended it; `look` is
    called again and again until then. Raises TimeoutError when it is not done after `seconds`."""
    deadline, pause = time.monotonic() + seconds, _SHORT
    while True:
        late = time.monotonic() >= deadline
        look()
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if late:
            raise TimeoutError
        time.sleep(pause)
        pause = min(2 * pause, POLL)


def spawn(
    argv: list[str], seconds: float, environment: Mapping[str, str]
) -> tuple[int, bytes, bytes]:
    """Run the program at the path argv[0], in a session of its own and with nothing to read.
    Returns its exit code, or the negative number of the signal that ended it, and what it printed
    to standard output and to standard error. A child that it leaves behind may keep these open,
    and is not waited for.

    Raises TimeoutError when it is not finished after `seconds`: it is killed then, with its process
    group. Raises OSError if it cannot be started, and ValueError for an argument that no
    program can be given.
    """
    stdin, outputs = os.open(os.devnull, os.O_RDONLY), [os.pipe(), os.pipe()]
    ours, theirs = zip(*outputs, strict=True)
    try:
        try:
            pid = start(argv, environment, (stdin, *theirs))
        finally:
            for descriptor in (stdin, *theirs):
                os.close(descriptor)
        return _wait(pid, ours, time.monotonic() + seconds)
    finally:
        for descriptor in ours:
            os.close(descriptor)


def ending(code: int) -> str:
    """What an exit code says, for people."""
    if code < 0:
        from signal import Signals

        return f"killed by {Signals(-code).name}"
    # What shells, env and nice exit with.
    why = {
        126: " (the program that it runs cannot be executed)",
        127: " (the program that it runs does not exist)",
    }
    return f"exit code {code}{why.get(code, '')}"


def _wait(pid: int, outputs: Sequence[int], deadline: float) -> tuple[int, bytes, bytes]:
    """The exit code of a process, and what it printed. Raises TimeoutError, and then the process
    is killed."""
    printed = {output: bytearray() for output in outputs}
    still, pause = list(outputs), _SHORT
    try:
        while True:
            late = time.monotonic() >= deadline
            ended, status = os.waitpid(pid, os.WNOHANG)
            # Only now: what it printed is all there when it has ended.
            opened = [output for output in still if _take(output, printed[output])]
            if ended:
                out, errors = map(bytes, printed.values())
                return os.waitstatus_to_exitcode(status), out, errors
            if late:
                raise TimeoutError
            # Most programs end at once when they have closed their outputs.
            pause = _SHORT if opened != still else min(2 * pause, POLL)
            still = opened
            select.select(still, [], [], pause)
    except BaseException:
        os.killpg(pid, _KILL)
        until(lambda: bool(os.waitpid(pid, os.WNOHANG)[0]), _GRACE)
        raise


def _take(output: int, into: bytearray) -> bool:
    """Read what is in a pipe now. Returns whether more can come."""
    os.set_blocking(output, False)
    try:
        part = os.read(output, _MOST)
    except BlockingIOError:
        return True
    into += part
    return bool(part)
