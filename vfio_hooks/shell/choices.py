"""What is decided only when a script runs: the branches of an `if`, and the values that they give
to variables."""

from collections.abc import Sequence
from typing import TypeAlias

from vfio_hooks.record import record, replace

MOST_VALUES = 4
"""For how many values of a variable, and in how many branches, a command is followed."""


@record
class Branch:
    """Which of the `count` branches of the `if` at this line of a file may be taken. One without
    an `else` still has the branch in which nothing is done. `guards`: the `if` only looks whether
    something is there."""

    file: str
    line: int
    indices: tuple[int, ...]
    count: int
    guards: bool = False

    def others(self) -> "Branch":
        """All the other branches."""
        others = tuple(index for index in range(self.count) if index not in self.indices)
        return replace(self, indices=others)


Path: TypeAlias = tuple[Branch, ...]
"""The branches in which a command stands, at most one for each `if`."""


def both(one: Path, other: Path) -> Path | None:
    """The path of what stands in these branches and in those; None if nothing can."""
    found = {(branch.file, branch.line): branch for branch in one}
    for branch in other:
        known = found.get((branch.file, branch.line), branch)
        indices = tuple(index for index in known.indices if index in branch.indices)
        if not indices:
            return None
        found[branch.file, branch.line] = replace(branch, indices=indices)
    return tuple(found.values())


def values_at(history: Sequence[tuple[Path, str]], path: Path) -> list[tuple[Path, str]]:
    """The values that a variable may have here, each with the path on which it has it. `history`
    are those that it was given, in order. An empty one says less than others and is left out."""
    found: list[tuple[Path, str]] = []
    rest = path
    for where, value in reversed(history):
        here = both(rest, where)
        if here is None:
            continue
        found.insert(0, (here, value))
        added = [branch for branch in here if branch not in rest]
        others = both(rest, (added[-1].others(),)) if added else None
        if others is None:
            break
        rest = others
    given = [one for one in found if one[1]] or found[:1]
    return given if len({value for _, value in given}) != 1 else [(path, given[0][1])]
