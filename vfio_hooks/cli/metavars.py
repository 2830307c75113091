"""What stands for the value of an option in its help, and how a shell completes it."""

from collections.abc import Callable
from typing import Literal

from vfio_hooks import ENDING, PLANNED

Kind = Literal["flag", "any", "words", "list", "file", "folder", "vm"]
"""What a value is: nothing, anything, one of some words, several of them with commas, ..."""


class Value(str):
    """A `metavar` for argparse that says what the value is. `words` are the possible values, if
    these are known."""

    kind: Kind
    words: Callable[[], tuple[str, ...]]

    def __new__(
        cls, name: str, kind: Kind, words: Callable[[], tuple[str, ...]] = tuple
    ) -> "Value":
        value = super().__new__(cls, name)
        value.kind, value.words = kind, words
        return value


def _facilities() -> tuple[str, ...]:
    from vfio_hooks.config import usable

    return usable()


VM = Value("VM", "vm")
FILE = Value("FILE", "file")
PATH = Value("PATH", "file")
DIR = Value("DIR", "folder")
OPERATION = Value("OPERATION", "words", lambda: PLANNED + ENDING)
SUBOP = Value("SUBOP", "words", lambda: ("begin", "end"))
FACILITIES = Value("NAME,…", "list", _facilities)
