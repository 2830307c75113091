"""Writing man(7): plain texts, as docstrings and help have them, become paragraphs and lists."""

import re
from collections.abc import Sequence

_SPECIAL = {
    "\\": r"\(rs",
    "-": r"\-",
    "'": r"\(aq",
    '"': r"\(dq",
    "`": r"\(ga",
    "^": r"\(ha",
    "~": r"\(ti",
    # Not every terminal has it.
    "…": "...",
}
"""What groff would make typographical, in a manual from which people copy commands."""


class Page:
    """A manual page in the making."""

    def __init__(self, name: str, section: int, source: str, summary: str) -> None:
        self._lines = [
            r".\" Made by `python3 -m manual`: do not edit.",
            f'.TH {name.upper()} {section} "" "{source}"',
            ".nh",
            ".ad l",
        ]
        self.section("NAME")
        self._lines.append(f"{escape(name)} \\- {escape(summary)}")

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"

    def section(self, title: str) -> None:
        self._lines.append(f".SH {escape(title)}")

    def part(self, title: str) -> None:
        self._lines.append(f".SS {escape(title)}")

    def prose(self, text: str) -> None:
        """Paragraphs; a paragraph that is indented is an example, set as it is."""
        for paragraph in paragraphs(text):
            if paragraph.startswith("  "):
                self.example(paragraph)
            else:
                self._lines += [".PP", *_filled(paragraph)]

    def example(self, text: str) -> None:
        lines = [escape(line) or r"\&" for line in text.split("\n")]
        self._lines += [".PP", ".EX", *lines, ".EE"]

    def item(self, tags: Sequence[str], text: str) -> None:
        """A list's item: what it is about, in backticks where it is to be typed, and the text."""
        for position, tag in enumerate(tags):
            self._lines += [".TQ" if position else ".TP", _styled(tag)]
        first, *others = paragraphs(text) or [""]
        self._lines += _filled(first) if first else [r"\&"]
        for paragraph in others:
            self._lines += [".IP", *_filled(paragraph)]


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text; examples that follow each other are one."""
    found: list[str] = []
    for block in re.split(r"\n(?:[ \t]*\n)+", text.strip("\n")):
        if not block.strip():
            continue
        # What introduces an example may stand right above it.
        head, _, rest = block.partition("\n")
        if (
            not head.startswith("  ")
            and rest
            and all(line.startswith("  ") for line in rest.split("\n"))
        ):
            found += [head, rest]
        elif found and found[-1].startswith("  ") and block.startswith("  "):
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return found


def escape(text: str) -> str:
    """A text that groff prints just as it is."""
    found = "".join(
        _SPECIAL.get(one, one if one.isascii() else f"\\[u{ord(one):04X}]") for one in text
    )
    return "\\&" + found if found.startswith(".") else found


def _styled(text: str) -> str:
    """A line of prose; `what is in backticks` is bold."""
    parts = re.split(r"`([^`]+)`", text)
    marked = (f"\\fB{escape(part)}\\fR" if odd else _plain(part) for odd, part in _alternate(parts))
    line = "".join(marked)
    return "\\&" + line if line.startswith(".") else line


def _plain(text: str) -> str:
    # Only at the start of a line a full stop is a request.
    return escape(text).removeprefix("\\&")


def _alternate(parts: Sequence[str]) -> list[tuple[bool, str]]:
    return [(bool(position % 2), part) for position, part in enumerate(parts)]


def _filled(paragraph: str) -> list[str]:
    """A paragraph, with a line for each sentence, as man(7) wants it."""
    words = " ".join(paragraph.split())
    return [_styled(one) for one in re.split(r"(?<=[.?!]) (?=[A-Z`])", words)]
