"""A script that is followed: what is known so far, and what it would run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from vfio_hooks.record import record
from vfio_hooks.shell.expansion import UNKNOWN
from vfio_hooks.shell.tokens import Unreadable
from vfio_hooks.shell.tree import Node


class Ended(Exception):
    """The script ends here."""


class Returned(Ended):
    """The function, or the file that is sourced, ends here."""


@record
class Action:
    """A command: the `file` and line where it stands, its words, the files that its output is
    written to, and what it reads from a command before it in a pipe, where that is constant.
    `background` and `loop` tell that it is not waited for, and that it is in a `while`; `sure` that
    it is reached whatever the host is like. `user` is whom it runs as, "" for root. `called_at` is
    the line that it comes from in the script that is followed, where it stands in another file."""

    file: str
    line: int
    words: tuple[str, ...]
    writes: tuple[str, ...] = ()
    input: str = ""
    background: bool = False
    loop: bool = False
    sure: bool = True
    user: str = ""
    called_at: int = 0


@dataclass
class Run:
    """What a script would run, what is not read, and where a variable is used that has no value
    yet. `read` gives the text of a file that is sourced or run, None where there is none."""

    read: Callable[[str], str | None]
    actions: list[Action] = field(default_factory=list)
    unread: list[tuple[str, Unreadable]] = field(default_factory=list)
    unset: list[tuple[str, int, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """Variables that are set somewhere."""
    values: dict[str, str] = field(default_factory=dict)
    functions: dict[str, tuple[str, tuple[Node, ...]]] = field(default_factory=dict)
    """By their names the file where they are defined, and their commands."""
    called: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    """Variables whose last value may not have been given."""

    def assign(self, name: str, value: str, sure: bool) -> None:
        """Set a variable, for sure or perhaps. Perhaps empty is no better than what it was."""
        self.names.add(name)
        if sure or value or name not in self.values:
            self.values[name] = value
        if sure:
            self.doubtful.discard(name)
        else:
            self.doubtful.add(name)

    @contextmanager
    def arguments(self, arguments: Sequence[str]) -> Iterator[None]:
        """Within it $1, $2 and the like are these; after it those that there were, even where an
        `exit` has ended it."""
        before = self._without_arguments()
        self._give(arguments)
        try:
            yield
        finally:
            self._without_arguments()
            self.values |= before

    def shift(self, count: str, sure: bool) -> None:
        """Leave out the first arguments. If that is not sure, none of them is known any more."""
        before = self._without_arguments()
        words = [before[name] for name in sorted(filter(str.isdecimal, before), key=int)]
        known = sure and count.isdecimal()
        self._give(words[int(count) :] if known else [UNKNOWN] * len(words))

    def _give(self, arguments: Sequence[str]) -> None:
        self.values |= {str(number): word for number, word in enumerate(arguments, 1)}
        self.values |= {"@": " ".join(arguments), "*": " ".join(arguments)}

    def _without_arguments(self) -> dict[str, str]:
        """Take $1, $2 and the like away, and return them."""
        names = [name for name in self.values if not name.isidentifier()]
        return {name: self.values.pop(name) for name in names}

    @contextmanager
    def subshell(self) -> Iterator[None]:
        """A shell of its own: an `exit` ends only it, and what it sets is not set after it."""
        before = self.values.copy(), self.doubtful.copy()
        with suppress(Ended):
            yield
        self.values, self.doubtful = before
