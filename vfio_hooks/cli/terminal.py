"""Printing for people and for programs."""

import json
import os
import shutil
import sys
import textwrap
from typing import Any, Literal, TextIO

Style = Literal["bold", "dim", "red", "yellow", "green", "blue", "magenta", "cyan"]
CHANGES: dict[str, Style] = {"+": "green", "-": "red", "@": "dim"}
"""The colors of lines of `diff -u`, by how they begin."""

_WIDEST, _NARROWEST = 100, 40
"""Characters of a line of a paragraph."""

_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33}
_CODES |= {"blue": 34, "magenta": 35, "cyan": 36}


def say(text: str = "", indent: int = 0) -> None:
    """Print a line on standard output, `indent` levels to the right."""
    print("  " * indent + text)


def complain(text: str) -> None:
    """Print a failure as one line on standard error, after all that was said before it."""
    sys.stdout.flush()
    print(paint(f"vfio-hooks: {clean(text)}", "red", sys.stderr), file=sys.stderr)


def paint(text: str, style: Style, stream: TextIO | None = None) -> str:
    """The text in a style where `stream` shows styles: a terminal, and no NO_COLOR
    (https://no-color.org)."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\033[{_CODES[style]}m{text}\033[m"


def clean(text: str) -> str:
    """The text with control characters made visible: names may contain anything."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def wrapped(head: str, text: str) -> list[str]:
    """The lines of a paragraph that begins with `head`, for this terminal. A word that is too long
    for a line, such as a path, stays whole."""
    width = _WIDEST
    if sys.stdout.isatty():
        width = min(width, shutil.get_terminal_size((width, 0)).columns)
    return textwrap.wrap(
        clean(text),
        max(width, _NARROWEST),
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )


def say_json(data: Any) -> None:
    print(json.dumps(data, indent=2))


class TerminalLog:
    """A log that is printed: what is done on standard output, warnings on standard error."""

    def info(self, text: str, vm: str = "") -> None:
        say(clean(text))

    def warning(self, text: str, vm: str = "") -> None:
        complain(text)
