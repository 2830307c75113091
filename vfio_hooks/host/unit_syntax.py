"""How systemd writes the names of units, and command lines in them."""

from __future__ import annotations

import string

_PLAIN = frozenset((string.ascii_letters + string.digits + ":_.").encode())
_LONGEST = 255
"""Bytes in a unit's name."""


def escape(text: str) -> str:
    """A text as a part of a unit's name, escaped as by systemd-escape(1)."""
    data = text.encode(errors="surrogateescape")
    return "".join(
        "-"
        if byte == ord("/")
        else chr(byte)
        if byte in _PLAIN and not (byte == ord(".") and not position)
        else f"\\x{byte:02x}"
        for position, byte in enumerate(data)
    )


def unit_name(*parts: str, kind: str = "service") -> str:
    """vfio-hooks-PART-PART.service, of any texts. Raises ValueError if it gets too long."""
    name = "-".join(("vfio-hooks", *map(escape, parts))) + f".{kind}"
    if len(name) > _LONGEST:
        raise ValueError(f"{name} is too long for the name of a unit")
    return name


def quote(words: tuple[str, ...]) -> str:
    """A command line as a unit's ExecStart= has it: systemd.service(5), "Command lines"."""
    return " ".join('"' + _escaped(word) + '"' for word in words)


def no_variables(word: str) -> str:
    """A word of a command line, escaped so that systemd does not replace any $VARIABLE in it."""
    return word.replace("$", "$$")


def _escaped(word: str) -> str:
    return no_variables(word).replace("\\", "\\\\").replace('"', '\\"')
