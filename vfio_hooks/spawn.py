"""A program, started and waited for. Most of what an event starts ends sooner than the module
subprocess is imported."""

import os
import select
import time
from collections.abc import Mapping, Sequence

_IGNORED = (13, 25)
"""SIGPIPE and SIGXFSZ: Python ignores them, and what it starts would go on doing so."""
_KILL = 9
_MOST = 1 << 20
"""More than a pipe holds: one read of this many bytes empties it."""
_GRACE = 1.0
"""Seconds for a killed program to end. One that waits in the kernel may never do."""


def spawn(
    argv: list[str], seconds: float, environment: Mapping[str, str]
) -> tuple[int, bytes, bytes]:
    """Run the program at the path argv[0], in a session of its own and with nothing to read.
    Returns its exit code, or the negative number of the signal that ended it, and what it printed
    to standard output and to standard error. A child that it leaves behind may keep these open,
    and is not waited for.

    Raises TimeoutError when it is not done after `seconds`: it is killed then, with its process
    group. Raises OSError where it cannot be started, and ValueError for an argument that no
    program can be given.
    """
    stdin, outputs = os.open(os.devnull, os.O_RDONLY), [os.pipe(), os.pipe()]
    ends = (stdin, *(end for _, end in outputs))
    actions = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends)]
    try:
        pid = os.posix_spawn(
            argv[0], argv, environment, file_actions=actions, setsid=True, setsigdef=_IGNORED
        )
        # Their ends stay open here, too: nothing waits for the end of an output.
        return _wait(pid, [end for end, _ in outputs], time.monotonic() + seconds)
    finally:
        for descriptor in (stdin, *outputs[0], *outputs[1]):
            os.close(descriptor)


def ending(code: int) -> str:
    """What an exit code says, for people."""
    if code < 0:
        from signal import Signals

        return f"killed by {Signals(-code).name}"
    # What shells, env and nice exit with.
    why = {126: " (what it runs cannot be executed)", 127: " (what it runs is not there)"}
    return f"exit code {code}{why.get(code, '')}"


def _wait(pid: int, outputs: Sequence[int], deadline: float) -> tuple[int, bytes, bytes]:
    """The exit code of a process, and what it printed. Raises TimeoutError, and then the process
    is killed."""
    handle = os.pidfd_open(pid)
    printed = {output: bytearray() for output in outputs}
    ready: list[int] = []
    try:
        while handle not in ready:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([handle, *outputs], [], [], max(left, 0))
            # Looked at once more after the deadline: the machine may have stood still.
            if handle not in ready and left <= 0:
                raise TimeoutError
            for output, text in printed.items():
                text += _read(output)
    except BaseException:
        os.killpg(pid, _KILL)
        select.select([handle], [], [], _GRACE)
        os.waitpid(pid, os.WNOHANG)
        raise
    finally:
        os.close(handle)
    out, errors = map(bytes, printed.values())
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), out, errors


def _read(output: int) -> bytes:
    """What is in a pipe now."""
    os.set_blocking(output, False)
    try:
        return os.read(output, _MOST)
    except BlockingIOError:
        return b""
