"""Command lines for people to read and to copy. The module shlex is imported by whoever tells one:
few events do."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def joined(argv: Iterable[str]) -> str:
    """A command line, as a shell takes it."""
    from shlex import join

    return join(argv)


def quoted(word: str) -> str:
    """A word of one."""
    from shlex import quote

    return quote(word)
