"""A shell script as a tree of commands."""

from collections.abc import Sequence

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
    """Branches, each with the commands that are its condition; an `else` has none. `place` tells it
    from others in the same line; that of Case and Block does so, too."""

    line: int
    branches: tuple[tuple[tuple["Node", ...], tuple["Node", ...]], ...]
    place: int = 0


@record
class Case:
    """Arms, each with its patterns. The first arm that fits the word is taken."""

    line: int
    word: Word
    arms: tuple[tuple[tuple[Word, ...], tuple["Node", ...]], ...]
    place: int = 0


@record
class Block:
    """Commands between keywords or brackets; `kind` is the opening word, "(" or "{". Also the two
    sides of "&&" and "||", and what comes after "!"."""

    line: int
    kind: str
    body: tuple["Node", ...]
    redirections: tuple[tuple[str, Word], ...] = ()
    place: int = 0


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
_NOTHING = (["true"], [":"])
_LEAVES = ("break", "return", "exit")


def does_nothing(node: Node) -> bool:
    """Whether it is `true` or `:`."""
    return isinstance(node, Simple) and [word.plain for word in node.words] in _NOTHING


def is_left(body: Sequence[Node]) -> bool:
    """Whether a loop with this body may end by a `break` or the like."""
    return any(
        node.words[0].plain in _LEAVES
        if isinstance(node, Simple) and node.words
        else is_left(_inside(node))
        for node in body
    )


def _inside(node: Node) -> Sequence[Node]:
    match node:
        case If(branches=branches):
            return [one for pair in branches for part in pair for one in part]
        case Case(arms=arms):
            return [one for _, part in arms for one in part]
        case Pipe(commands=inner) | Block(body=inner) | For(body=inner):
            return inner
    return ()
