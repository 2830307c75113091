"""Commands that run another: sudo, nohup, timeout 5, sh and the like."""

import re
from collections.abc import Sequence
from itertools import pairwise

from vfio_hooks.shell.expansion import UNKNOWN

_PREFIXES = frozenset(
    "sudo doas nohup exec setsid command builtin time env xargs systemd-run pkexec".split()
)
# Their options that take a value, apart from the one for a user.
_TAKES_VALUE = {
    "xargs": ("-n", "-I", "-P", "-L", "-d", "-a", "-s"),
    "systemd-run": ("-p", "-u", "-M"),
}
_WITH_VALUE = {"timeout": 1, "nice": 0, "ionice": 0, "chrt": 0, "stdbuf": 0, "flock": 1}
_USER = ("runuser", "su")
_SU_TAKES_VALUE = ("-c", "-s", "--shell", "-g", "--group", "-G", "--supp-group")
_PATH = ("/usr/local/bin", "/usr/local/sbin")
"""Where people put their own scripts, in order to call them by name."""


def bare(words: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """A command without sudo and the like, and the user that these run it as."""
    left, user = list(words), ""
    while left:
        program = left[0].rpartition("/")[2]
        if program == "command" and left[1:2] in (["-v"], ["-V"]):
            return (), user
        if program in _USER and "-c" not in left:
            left, user = _options(left[1:], "")
        elif program in _WITH_VALUE and any(re.match(r"-\w*p$", one) for one in left[1:]):
            # It is about a process that runs already.
            break
        elif program in _PREFIXES or program in _WITH_VALUE:
            left, given = _options(left[1:], program)
            user = user or given
            left = left[_WITH_VALUE.get(program, 0) :]
        else:
            break
    return tuple(left), user


def _options(words: list[str], program: str) -> tuple[list[str], str]:
    """What follows a prefix's options and variables, and the user that they name."""
    user = ""
    while words and (words[0].startswith("-") or re.match(r"[A-Za-z_]\w*=", words[0])):
        option = words.pop(0)
        if option in _TAKES_VALUE.get(program, ()) and words:
            words.pop(0)
        elif option in ("-u", "-g", "--user") and words and program != "systemd-run":
            value = words.pop(0)
            user = user if option == "-g" else value
        elif (
            option in ("-n", "-c", "-k", "-s")
            and words
            and program in _WITH_VALUE.keys() - {"flock"}
        ):
            words.pop(0)
        elif option.startswith(("--user=", "--uid=")):
            user = option.partition("=")[2]
        elif option == "--":
            break
    if not program and words and not user:
        user = words.pop(0)
    return words, user


def inner_script(words: Sequence[str]) -> str | None:
    """The script in sh -c SCRIPT, su USER -c SCRIPT and eval SCRIPT."""
    program = words[0].rpartition("/")[2] if words else ""
    if program in ("sh", "bash", "dash", *_USER) and "-c" in words[:-1]:
        return words[words.index("-c") + 1]
    return " ".join(words[1:]) if program == "eval" else None


def switched_to(words: Sequence[str]) -> str:
    """The user of su USER -c SCRIPT."""
    if words[0].rpartition("/")[2] not in _USER:
        return ""
    named = (one for before, one in pairwise(words) if before not in _SU_TAKES_VALUE)
    return next((one for one in named if one[:1] != "-"), "")


def script_of(words: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """The paths at which the script may be that a command sources or runs, and its arguments. A
    script that is sourced without any sees those of the script that sources it: None."""
    if words[:1] in (("source",), (".",)):
        return words[1:2], words[2:] or None
    plain = list(words)
    if plain and plain[0].rpartition("/")[2] in ("sh", "bash"):
        del plain[0]
        while plain and plain[0].startswith("-"):
            del plain[0]
    name = plain[0] if plain else ""
    if not name or UNKNOWN in name:
        return (), ()
    return (name,) if "/" in name else [f"{place}/{name}" for place in _PATH], plain[1:]
