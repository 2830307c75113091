"""A shell script as a tree of commands."""

from vfio_hooks.record import record
from vfio_hooks.shell.tokens import Word


@record
class Simple:
    """A command: variables that it sets, its words, and (operator, file) of each redirection."""

    line: int
    assignments: tuple[tuple[str, Word], ...] = ()
    words: tuple[Word, ...] = ()
    redirections: tuple[tuple[str, Word], ...] = ()
    background: bool = False


@record
class Pipe:
    """Commands of which each reads what the one before it prints."""

    commands: tuple["Node", ...]


@record
class If:
    """Branches, each with the commands that are its condition; an `else` has none."""

    line: int
    branches: tuple[tuple[tuple["Node", ...], tuple["Node", ...]], ...]


@record
class Case:
    """Arms, each with its patterns. The first arm that fits the word is taken."""

    line: int
    word: Word
    arms: tuple[tuple[tuple[Word, ...], tuple["Node", ...]], ...]


@record
class Block:
    """Commands between keywords or brackets; `kind` is the opening word, "(" or "{". Also the two
    sides of "&&" and "||", and what comes after "!"."""

    line: int
    kind: str
    body: tuple["Node", ...]
    redirections: tuple[tuple[str, Word], ...] = ()


@record
class For:
    """The body once for each of the words; without words, for the arguments. `name` is "" in a
    for ((...))."""

    line: int
    name: str
    words: tuple[Word, ...]
    body: tuple["Node", ...]


@record
class Function:
    name: str
    body: tuple["Node", ...]


Node = Simple | Pipe | If | Case | Block | For | Function
