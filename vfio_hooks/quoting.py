"""Command lines for people to read and to copy. The module shlex is only imported when one is
shown, because few events show any."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def joined(argv: Iterable[str]) -> str:
    """A command line as one would type it into a shell."""
    from shlex import join

    return join(argv)


def quoted(word: str) -> str:
    """A word as one would type it into a shell."""
    from shlex import quote

    return quote(word)
