"""What runs an executable file, and what keeps it from being run.

The kernel runs programs, and scripts by the interpreter that their first line names. It leaves a
script without such a line to the calling shell. VFIO-Tools' hook was bash, so scripts without the
line are written for bash.
"""

import os
import re
import shlex

from vfio_hooks.commands import find, run
from vfio_hooks.errors import CommandFailed, HookError
from vfio_hooks.host import Host

_LARGEST = 1 << 18
"""No script that a person wrote has this many bytes."""
_SHELLS = ("sh", "bash", "dash")
_BYTE_ORDER_MARK = "\ufeff"


def text_of(path: str) -> str:
    """A script's text; "" if it cannot be read, or is not a script."""
    try:
        # Opening a pipe would wait.
        if not os.path.isfile(path):
            return ""
        with open(path, "rb") as file:
            data = file.read(_LARGEST)
    except OSError:
        return ""
    return "" if b"\0" in data else data.decode(errors="replace")


def interpreter(text: str) -> str | None:
    """The interpreter that a script's first line names, or None."""
    found = re.match(r"#!\s*(\S+)", text)
    return found[1] if found else None


def command(path: str) -> list[str]:
    """The command, less the arguments, that runs an executable of a VM's."""
    text = text_of(path)
    if text and not interpreter(text):
        return [find("bash") or "/bin/sh", path]
    # Through sh, which AppArmor's profile of libvirtd lets run unconfined: run directly, a script
    # would inherit a profile in which nothing below /usr/local can be executed.
    return ["/bin/sh", "-c", 'exec "$0" "$@"', path]


def fault(path: str, host: Host | None) -> HookError | None:
    """Why a file cannot be run, or not as intended, as far as its bytes show. Interpreters are
    looked for on `host`; with None, they are not."""
    if os.path.islink(path) and not os.path.exists(path):
        goal = os.readlink(path)
        return HookError(
            f"{path}: it is a link to {goal}, which does not exist", "correct or remove the link"
        )
    text = text_of(path)
    here = shlex.quote(path)
    if text.startswith(_BYTE_ORDER_MARK):
        return HookError(
            f"{path}: it begins with a byte order mark, which hides its first line",
            f"sed -i '1s/^\\xef\\xbb\\xbf//' {here}",
        )
    if "\r\n" in text:
        return HookError(
            f"{path}: its lines end in CR and LF, as on Windows", f"sed -i 's/\\r$//' {here}"
        )
    if host and (missing := _missing(text, host)):
        return HookError(
            f"{path}: its first line names the interpreter {missing}, which does not exist",
            "install it, or correct the line",
        )
    return None


def _missing(text: str, host: Host) -> str | None:
    """The interpreter that a script needs and that the host does not have; "" for none."""
    found = re.match(r"#!\s*(\S+)[ \t]*(?:-S[ \t]+)?([^\s=]*)(?:\s|$)", text)
    if not found:
        return None
    program, argument = found.groups()
    if not host.exists(program):
        return program
    by_name = os.path.basename(program) == "env" and host.is_this_machine
    return argument if by_name and argument.strip("-") and not find(argument) else None


def syntax_error(path: str) -> str | None:
    """What the shell itself says about a shell script with a syntax error; "" for none."""
    text = text_of(path)
    name = os.path.basename(interpreter(text) or "bash")
    if name == "env":
        name = text.split("\n", 1)[0].split()[-1]
    shell = find(name) if text and name in _SHELLS else None
    if shell is None:
        return None
    try:
        run([shell, "-n", path], seconds=10)
    except CommandFailed as error:
        return error.said
    except HookError:
        return ""
    return None
