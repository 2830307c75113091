"""External commands: an argument list, a time limit, no standard input, a known locale."""

from __future__ import annotations

import os

from vfio_hooks.commands.spawn import ending, spawn
from vfio_hooks.errors import CommandFailed, HookError, reason
from vfio_hooks.quoting import joined

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# A hook gets the environment with which libvirt's daemon was started: PATH may be missing.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(argv: list[str], seconds: float, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return its standard output.

    Raises CommandFailed, with the command's own last line, if it exits non-zero or is not finished
    after `seconds` (it is killed then), and HookError if it cannot be started.
    """
    program = find(argv[0])
    if program is None:
        raise absent(argv)
    try:
        code, printed, errors = spawn(
            [program, *argv[1:]], seconds, {**variables(), **(environment or {})}
        )
    except TimeoutError:
        raise late(argv, seconds) from None
    except OSError as error:
        raise HookError(f"{program}: cannot be run: {reason(error)}") from None
    except ValueError as error:
        raise unfit(argv, error) from None
    if code:
        raise failed(argv, code, errors)
    return printed.decode(errors="replace")


def find(program: str) -> str | None:
    """The path of a program, or None. A mere name is looked up in the folders that `run` uses."""
    folders = [""] if "/" in program else [f"{folder}/" for folder in SEARCH.split(":")]
    for folder in folders:
        candidate = folder + program
        try:
            if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
                return candidate
        except ValueError:
            # There is a NUL in it.
            return None
    return None


def variables() -> dict[str, str]:
    """The environment of every command."""
    return {"PATH": SEARCH, "LC_ALL": "C.UTF-8"}


def absent(argv: list[str]) -> HookError:
    return HookError(f"{argv[0]}: no such program", f"install it so that it is in {SEARCH}")


def late(argv: list[str], seconds: float) -> CommandFailed:
    why = f"not finished after {seconds:g} s, so it was killed"
    return CommandFailed(joined(argv), why, argv, None)


def unfit(argv: list[str], error: Exception) -> HookError:
    return HookError(f"{joined(argv)}: these arguments cannot be passed to a program: {error}")


def failed(argv: list[str], code: int, stderr: bytes) -> CommandFailed:
    said = (stderr.decode(errors="replace").strip().splitlines() or [""])[-1]
    why = f"{ending(code)}{': ' if said else ''}{said}"
    return CommandFailed(joined(argv), why, argv, code, said)
