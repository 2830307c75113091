"""A script that is followed: what is known so far, and what it would run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from vfio_hooks.record import record
from vfio_hooks.shell.choices import Path
from vfio_hooks.shell.expansion import UNKNOWN
from vfio_hooks.shell.tokens import Unreadable
from vfio_hooks.shell.tree import Node


class Ended(Exception):
    """The script ends here."""


class Returned(Ended):
    """The function or the sourced file ends here."""


@record
class Action:
    """A command: the `file` and line where it stands, its words, the files that its output is
    written to, and what it reads from the command before it in a pipe, if that is constant.
    `background` says that the script does not wait for it, `loop` that it is in a `while`, and
    `sure` that it is reached on every host. `user` is the user that it runs as, "" for root. If it
    stands in another file, `called_at` is the line of the script that leads there.
    `path` are the branches in which it stands that are chosen when the script runs. `inside` says
    that it is in a $(...)."""

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
    path: Path = ()
    inside: bool = False


@dataclass
class Run:
    """What a script would run, what of it is not understood, and where a variable is used that has
    no value yet. `read` returns the text of a file that is sourced or run, None if there is
    none."""

    read: Callable[[str], str | None]
    actions: list[Action] = field(default_factory=list)
    unread: list[tuple[str, Unreadable]] = field(default_factory=list)
    unset: list[tuple[str, int, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """Variables that are set somewhere."""
    values: dict[str, str] = field(default_factory=dict)
    functions: dict[str, tuple[str, tuple[Node, ...]]] = field(default_factory=dict)
    """By name, the file that defines a function, and its commands."""
    called: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    """Variables whose last assignment may not be reached."""
    histories: dict[str, list[tuple[Path, str]]] = field(default_factory=dict)
    """The values of variables that are set in a branch that is chosen when the script runs."""
    steps: int = 0
    """How many commands were followed."""

    def assign(self, name: str, value: str, sure: bool, path: Path = ()) -> None:
        """Set a variable. One that is only perhaps made empty keeps its value."""
        self.names.add(name)
        self._note(name, value, path)
        if sure or value or name not in self.values:
            self.values[name] = value
        if sure:
            self.doubtful.discard(name)
        else:
            self.doubtful.add(name)

    def _note(self, name: str, value: str, path: Path) -> None:
        """Note a value for the branches in which it is given, in place of what it was in them."""
        before = self.histories.pop(name, None)
        if path:
            if before is None:
                before = [((), self.values[name])] if name in self.values else []
            kept = [one for one in before if one[0][: len(path)] != path]
            self.histories[name] = [*kept, (path, value)]

    @contextmanager
    def arguments(self, arguments: Sequence[str]) -> Iterator[None]:
        """Within this, $1, $2 and so on are these. After it they are as before, even if an `exit`
        has ended it."""
        before = self._without_arguments()
        self._give(arguments)
        try:
            yield
        finally:
            self._without_arguments()
            self.values |= before

    def shift(self, count: str, sure: bool) -> None:
        """Drop the first arguments. If that may not happen, none of them is known any more."""
        before = self._without_arguments()
        words = [before[name] for name in sorted(filter(str.isdecimal, before), key=int)]
        known = sure and count.isdecimal()
        self._give(words[int(count) :] if known else [UNKNOWN] * len(words))

    def _give(self, arguments: Sequence[str]) -> None:
        self.values |= {str(number): word for number, word in enumerate(arguments, 1)}
        self.values |= {"@": " ".join(arguments), "*": " ".join(arguments)}

    def _without_arguments(self) -> dict[str, str]:
        """Take $1, $2 and so on away, and return them."""
        names = [name for name in self.values if not name.isidentifier()]
        return {name: self.values.pop(name) for name in names}

    @contextmanager
    def subshell(self) -> Iterator[None]:
        """A subshell: an `exit` ends only this, and what it sets is lost at its end."""
        before = self.values.copy(), self.doubtful.copy(), self.histories.copy()
        with suppress(Ended):
            yield
        self.values, self.doubtful, self.histories = before
