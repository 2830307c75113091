"""What is decided only when a script runs: the branches of an `if`, and the values that they give
to variables."""

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from vfio_hooks.record import record, replace
from vfio_hooks.shell.expansion import UNKNOWN

MOST_VALUES = 4
"""For how many values of a variable, and in how many branches, a command is followed."""
_MOST_PATHS = 64
"""More of them are not told apart: each of some conditions can double them."""


@record
class Branch:
    """Which of the `count` branches of an `if` may be taken, that at this `place` among the words
    of a file's line. One without an `else` still has the branch in which nothing is done. `guards`:
    the `if` only looks whether something is there."""

    file: str
    line: int
    place: int
    indices: tuple[int, ...]
    count: int
    guards: bool = False

    @property
    def key(self) -> tuple[str, int, int]:
        """What is the same for all branches of an `if`."""
        return self.file, self.line, self.place

    def others(self) -> "Branch":
        """All the other branches."""
        others = tuple(index for index in range(self.count) if index not in self.indices)
        return replace(self, indices=others)


Path: TypeAlias = tuple[Branch, ...]
"""The branches in which a command stands, at most one for each `if`."""


def both(one: Path, other: Path) -> Path | None:
    """The path of what stands in these branches and in those; None if nothing can."""
    found = {branch.key: branch for branch in one}
    for branch in other:
        known = found.get(branch.key, branch)
        indices = tuple(index for index in known.indices if index in branch.indices)
        if not indices:
            return None
        found[branch.key] = replace(branch, indices=indices)
    return tuple(found.values())


def values_at(history: Sequence[tuple[Path, str]], path: Path) -> list[tuple[Path, str]]:
    """The values that a variable may have here, each with a path on which it has it. `history` are
    those that it was given, in order. An empty one says less than others and is left out."""
    found: list[tuple[Path, str]] = []
    rests = [path]
    for where, value in reversed(history):
        found[:0] = [(here, value) for rest in rests if (here := both(rest, where)) is not None]
        rests = [one for rest in rests for one in _without(rest, where)]
        if len(found) + len(rests) > _MOST_PATHS:
            return [(path, UNKNOWN)]
    given = [one for one in found if one[1]] or found[:1]
    return given if len({value for _, value in given}) != 1 else [(path, given[0][1])]


def _without(path: Path, where: Path) -> Iterator[Path]:
    """The paths of what stands in the branches of `path` but not in all those of `where`."""
    rest: Path | None = path
    for branch in where:
        if rest is not None:
            if others := both(rest, (branch.others(),)):
                yield others
            rest = both(rest, (branch,))
