"""External commands: an argument list, a time limit, no standard input, a known locale."""

import os
import shlex
import subprocess
import time
from typing import IO

from vfio_hooks.errors import HookError
from vfio_hooks.wait import POLL

# libvirt hands a hook only what its own daemon was started with: PATH may be absent.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(argv: list[str], seconds: float, environment: dict[str, str] | None = None) -> str:
    """Run a command and return its standard output.

    Raises HookError, with the command's own last line, when it exits non-zero, cannot be
    started, or is not done after `seconds` (it is killed then).
    """
    variables = {"PATH": SEARCH, "LC_ALL": "C.UTF-8", **(environment or {})}
    try:
        import sh
    except ImportError:
        # Undo must work on a host where sh is gone or broken.
        return _run_plainly(argv, seconds, variables)
    try:
        command = sh.Command(argv[0], search_paths=SEARCH.split(":"))
        # sh 1 returns a command object, sh 2 a string: str() makes them the same.
        return str(command(*argv[1:], _timeout=seconds, _env=variables, _in="", _tty_out=False))
    except sh.CommandNotFound:
        raise _absent(argv) from None
    except sh.TimeoutException:
        raise _late(argv, seconds) from None
    except sh.ErrorReturnCode as error:
        raise _failed(argv, f"exit code {error.exit_code}", error.stderr) from None


def find(program: str) -> str | None:
    """The path of a program in the folders that `run` looks into."""
    for folder in SEARCH.split(":"):
        candidate = f"{folder}/{program}"
        if os.access(candidate, os.X_OK):
            return candidate
    return None


def _run_plainly(argv: list[str], seconds: float, variables: dict[str, str]) -> str:
    try:
        process = subprocess.Popen(
            [find(argv[0]) or argv[0], *argv[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            start_new_session=True,
        )
    except OSError:
        raise _absent(argv) from None
    with process:
        try:
            printed, errors = _output(process, seconds)
        except subprocess.TimeoutExpired:
            raise _late(argv, seconds) from None
        finally:
            process.kill()
    if process.returncode:
        raise _failed(argv, f"exit code {process.returncode}", errors)
    return printed.decode(errors="replace")


def _output(process: "subprocess.Popen[bytes]", seconds: float) -> tuple[bytes, bytes]:
    """What a process has printed by its end. A child that it leaves behind may keep its output
    open for ever, so that has no end. Raises TimeoutExpired."""
    deadline = time.monotonic() + seconds
    while True:
        has_ended = process.poll() is not None
        try:
            return process.communicate(timeout=POLL)
        except subprocess.TimeoutExpired as late:
            if has_ended:
                return _rest(late.stdout, process.stdout), _rest(late.stderr, process.stderr)
            if time.monotonic() >= deadline:
                raise


def _rest(begin: bytes | None, pipe: IO[bytes] | None) -> bytes:
    if pipe is None or pipe.closed:
        return begin or b""
    os.set_blocking(pipe.fileno(), False)
    return (begin or b"") + (pipe.read() or b"")


def _absent(argv: list[str]) -> HookError:
    return HookError(f"{argv[0]}: no such program", f"install it, or look into {SEARCH}")


def _late(argv: list[str], seconds: float) -> HookError:
    return HookError(f"{shlex.join(argv)}: not done after {seconds:g} s, so it was killed")


def _failed(argv: list[str], how: str, stderr: bytes) -> HookError:
    lines = stderr.decode(errors="replace").strip().splitlines()
    return HookError(f"{shlex.join(argv)}: {how}{': ' + lines[-1] if lines else ''}")
