"""What commands print, as far as that is known before the script runs.

A process is known by its name or by the file that it has open: `pgrep Xorg` prints "?Xorg".
"""

import ast
import operator
import re
from collections.abc import Mapping, Sequence

from vfio_hooks.shell.expansion import MOST, UNKNOWN
from vfio_hooks.shell.prefixes import bare

_FINDERS = ("pidof", "pgrep", "lsof", "fuser", "ps", "lsmod")
_NAMED = re.compile(r"(?:pidof|pgrep)\b(?: -[ugtsFP] ?\S+| -\S+)* [\"']?\^?(?P<name>[\w.-]+)")
_OPENED = re.compile(r"(?:lsof|fuser)\b.*? [\"']?(?P<name>/dev/(?!null)\S+?)[\"']?(?: |$)")
_FOUND = re.compile(r"grep (?:-\w+ )*[\"']?\^?\[?(?P<first>[\w/])\]?(?P<rest>[\w./-]*)")
_FILTERS = ("awk", "gawk", "sed", "sort", "uniq", "head", "tail", "cut", "tr")
_NOTHING = ("cat", "lspci", "who", "w", "ls", "find", "dmesg")
_ECHO = re.compile(r"""\s*(?:echo|printf '%s') (?:-n )?(["']?)(?P<text>[^"'|;&<>`]*)\1\s*""")
_TRANSLATED = re.compile(r"""\s*tr ["']?(?P<old>\S)["']? ["']?(?P<new>.)["']?\s*""")
_COUNTED = re.compile(r"\s*seq(?: (?P<first>\d+))? (?P<last>\d+)\s*")
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*|\d)\}?")
_SUMS = {
    **{ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul},
    **{ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod},
}


def printed(words: Sequence[str], given: str) -> str | None:
    """What a command prints that reads `given` from a pipe; None if it may do more than print."""
    words, _ = bare(words)
    program = words[0].rpartition("/")[2] if words else ""
    if program in ("echo", "printf"):
        return echoed(words)
    if program in _FINDERS:
        return found(" ".join(words))
    if program in ("grep", "egrep"):
        return found(" ".join(words)) if given == UNKNOWN else given
    if program in _FILTERS:
        return given if given.startswith(UNKNOWN) else UNKNOWN
    return UNKNOWN if program in _NOTHING else None


def echoed(words: Sequence[str]) -> str:
    """What echo and printf print, without the newline at the end."""
    rest = [word for word in words[1:] if word not in ("-n", "-e", "-en", "-ne")]
    if rest and words[0].endswith("printf") and re.fullmatch(r"%[sd](?:\\n)?", rest[0]):
        del rest[0]
    return " ".join(rest).replace("\\n", "\n").removesuffix("\n")


def found(text: str) -> str:
    """The processes or modules that a pipe of finders and filters finds."""
    for pattern in (_NAMED, _OPENED):
        if match := pattern.search(text):
            return UNKNOWN + match["name"]
    match = _FOUND.search(text)
    return UNKNOWN + match["first"] + match["rest"] if match else UNKNOWN


def of_code(code: str, values: Mapping[str, str]) -> str | None:
    """What $(code) and $((code)) become; None where that is not known."""
    if re.match(rf"\s*(?:sudo )?(?:{'|'.join(_FINDERS)})\b", code):
        # The name of the file may be in a variable.
        return found(_VARIABLE.sub(lambda one: values.get(one[1], one[0]), code))
    filled = _filled(code, values)
    if filled is None:
        return None
    if code.startswith("("):
        return _sum(code[1:-1], values)
    if match := _COUNTED.fullmatch(filled):
        first, last = int(match["first"] or 1), int(match["last"])
        return " ".join(map(str, range(first, min(last, first + MOST) + 1)))
    text, bar, rest = filled.partition("|")
    match = _ECHO.fullmatch(text)
    translated = _TRANSLATED.fullmatch(rest)
    if not match or (bar and not translated):
        return None
    return (
        match["text"].replace(translated["old"], translated["new"]) if translated else match["text"]
    )


def _filled(text: str, values: Mapping[str, str]) -> str | None:
    """A text with the values of its variables; None where one is not known."""
    known = [values.get(name, UNKNOWN) for name in _VARIABLE.findall(text)]
    if any(UNKNOWN in value for value in known) or "$(" in text:
        return None
    return _VARIABLE.sub(lambda one: values[one[1]], text)


def _sum(text: str, values: Mapping[str, str]) -> str | None:
    """A sum of whole numbers and variables."""
    filled = re.sub(r"\$?\{?\b([A-Za-z_]\w*)\}?", lambda one: values.get(one[1], UNKNOWN), text)
    if not re.fullmatch(r"[\d\s()+*/%-]{1,200}", filled):
        return None
    try:
        number = _number(ast.parse(filled.strip().replace("/", "//"), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return None
    return str(number)


def _number(node: ast.expr) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
        return int(_SUMS[type(node.op)](_number(node.left), _number(node.right)))
    raise ValueError(node)
