"""What variables, ${...} and braces become, as far as that is known before the script runs."""

import re
from collections.abc import Iterator, Mapping

UNKNOWN = "?"
"""Stands for a part of a word that is only known when the script runs. "*" would mean all files."""
MOST = 64
"""The most numbers in a list such as {1..3}, and the most rounds of a loop that are followed."""
_MANAGER = "display-manager"
_NAMES_MANAGER = re.compile(r"(?i)(?:stored?_?)?d(?:isp(?:lay)?)?_?m(?:gr|anager)?(?:_?name)?")
"""Variables for the display manager's unit, which scripts find out when they run."""
_REPLACED = re.compile(r"(?P<name>\w+)/(?P<all>/?)(?P<old>[^/*?\[$]+)/(?P<new>[^$]*)")
_ELEMENT = re.compile(r"(\w+)\[(\d{1,9})\]")
_FOLDER = re.compile(
    r"""\s*(?:cd ["']?\$\()?(?:dirname|realpath) .*(?:\$0|\$\{?BASH_SOURCE|\$\{0).*"""
)
"""The idioms for the folder that a script is in."""
_LISTS = re.compile(r"\{([^{},]*(?:,[^{},]*)+)\}|\{(\d+)\.\.(\d+)\}")


def of_variable(name: str, values: Mapping[str, str], other: str | None) -> str | None:
    """A variable's value, or the `other` of ${NAME:-OTHER}; None if it has none."""
    value = values.get(name, other)
    if value in (None, UNKNOWN) and _NAMES_MANAGER.fullmatch(name):
        return _MANAGER
    return value


def of_braces(text: str, values: Mapping[str, str]) -> str | None:
    """What ${NAME/OLD/NEW} and ${NAME[3]} become; None for other text."""
    if element := _ELEMENT.fullmatch(text):
        words, place = values.get(element[1], "").split(), int(element[2])
        return words[place] if place < len(words) else UNKNOWN
    found = _REPLACED.fullmatch(text)
    if not found:
        return None
    whole = values.get(found["name"], UNKNOWN)
    return whole.replace(found["old"], found["new"], -1 if found["all"] else 1)


def of_place(text: str, file: str) -> str:
    """What $(dirname "$0") and the like become in a file, and any $(code) that looks for the
    display manager."""
    if _FOLDER.fullmatch(text):
        return file.rpartition("/")[0]
    return _MANAGER if _MANAGER in text else UNKNOWN


def braces(text: str) -> Iterator[str]:
    """Expand braces: a{b,c} is ab and ac; {1..3} is 1, 2 and 3."""
    found = _LISTS.search(text)
    if found is None:
        yield text
        return
    parts = found[1].split(",") if found[1] is not None else []
    if not parts:
        first, last = int(found[2]), int(found[3])
        parts = [str(number) for number in range(first, min(last, first + MOST) + 1)]
    for part in parts:
        yield from braces(text[: found.start()] + part + text[found.end() :])
