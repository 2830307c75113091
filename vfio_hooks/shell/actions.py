"""What a script would run: each command with its words, as far as these are constants."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from vfio_hooks.record import record, replace
from vfio_hooks.shell.conditions import holds, is_doubtful
from vfio_hooks.shell.expansion import MOST, UNKNOWN, braces, of_code, of_variable
from vfio_hooks.shell.grammar import parse
from vfio_hooks.shell.tokens import Unreadable, Word
from vfio_hooks.shell.tree import Block, Case, For, Function, If, Node, Pipe, Simple

_WRITES = (">", ">>", ">|", "&>", "&>>")
_DEEPEST = 8


class _Ended(Exception):
    """The script ends here."""


@record
class Action:
    """A command: the `file` and line where it stands, its words, the files that its output is
    written to, and what it reads from a command before it in a pipe, where that is constant.
    `background` and `loop` tell that it is not waited for, and that it is in a `while`."""

    file: str
    line: int
    words: tuple[str, ...]
    writes: tuple[str, ...] = ()
    input: str = ""
    background: bool = False
    loop: bool = False


@dataclass
class Run:
    """A script that is followed: what it would run, what is not read, and where a variable is used
    that has no value yet. `read` gives the text of a file that is sourced or run, None where there
    is none."""

    read: Callable[[str], str | None]
    actions: list[Action] = field(default_factory=list)
    unread: list[tuple[str, Unreadable]] = field(default_factory=list)
    unset: list[tuple[str, int, str]] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    """Variables that are set somewhere."""
    _values: dict[str, str] = field(default_factory=dict)
    _functions: dict[str, tuple[Node, ...]] = field(default_factory=dict)
    _called: set[str] = field(default_factory=set)
    _doubtful: set[str] = field(default_factory=set)
    """Variables whose last value may not have been given."""

    def follow(self, file: str, text: str, arguments: Sequence[str] = ()) -> None:
        """Follow a script to its end. What it never calls it does not do; but where it calls
        something that is known only when it runs, that may be any of its functions."""
        with self._arguments(arguments):
            with suppress(_Ended):
                _Walk(self, file).script(text)
            if any(action.words[0] == UNKNOWN for action in self.actions):
                for name in [name for name in self._functions if name not in self._called]:
                    _Walk(self, file).nodes(self._functions[name])

    @contextmanager
    def _arguments(self, arguments: Sequence[str]) -> Iterator[None]:
        """Within it $1, $2 and the like are these; after it those that there were, even where an
        `exit` has ended it."""
        before = self._without_arguments()
        self._values |= {str(number): word for number, word in enumerate(arguments, 1)}
        self._values |= {"@": " ".join(arguments), "*": " ".join(arguments)}
        try:
            yield
        finally:
            self._without_arguments()
            self._values |= before

    def _without_arguments(self) -> dict[str, str]:
        """Take $1, $2 and the like away, and return them."""
        names = [name for name in self._values if not name.isidentifier()]
        return {name: self._values.pop(name) for name in names}

    @contextmanager
    def _subshell(self) -> Iterator[None]:
        """A shell of its own: an `exit` ends only it, and what it sets is not set after it."""
        before = self._values.copy(), self._doubtful.copy()
        with suppress(_Ended):
            yield
        self._values, self._doubtful = before


@record
class _Walk:
    """A walk through one file's commands; `sure`: these are reached whatever the host is like."""

    run: Run
    file: str
    depth: int = 0
    loop: bool = False
    sure: bool = True

    def script(self, text: str) -> None:
        body, error = parse(text)
        if error:
            self.run.unread.append((self.file, error))
        self.nodes(body)

    def nodes(self, body: Sequence[Node]) -> None:
        for node in body:
            self._node(node)

    def _node(self, node: Node) -> None:
        match node:
            case Simple():
                self._simple(node)
            case Pipe(commands):
                self._pipe(commands)
            case Function(name, body):
                self.run._functions[name] = body
            case For():
                self._for(node)
            case If(branches=branches):
                self._if(branches)
            case Case():
                self._case(node)
            case Block(kind="while" | "until"):
                replace(self, loop=True, sure=False).nodes(node.body)
            case Block(kind="&&" | "||"):
                self._chain(node)
            case Block(kind="("):
                with self.run._subshell():
                    self.nodes(node.body)
            case Block():
                self.nodes(node.body)

    def _if(self, branches: Sequence[tuple[Sequence[Node], Sequence[Node]]]) -> None:
        """The branch that is taken, where that is known; else all that may be."""
        walk = self
        for decides, body in branches:
            walk.nodes(decides)
            holds = self._holds(decides) if decides else True
            walk = walk if holds is not None else replace(self, sure=False)
            if holds is not False:
                walk.nodes(body)
            if holds:
                return

    def _chain(self, node: Block) -> None:
        """The commands of A && B or A || B as far as it is not known that they are not reached."""
        walk = self
        for command in node.body:
            walk._node(command)
            holds = self._holds((command,))
            if holds is (node.kind == "||"):
                return
            walk = walk if holds is not None else replace(self, sure=False)

    def _holds(self, decides: Sequence[Node]) -> bool | None:
        return holds(decides, self._words, self.run._doubtful)

    def _case(self, node: Case) -> None:
        subject = " ".join(self._words(node.word))
        known = UNKNOWN not in subject and not is_doubtful((node.word,), self.run._doubtful)
        walk = replace(self, sure=self.sure and known)
        for patterns, body in node.arms:
            texts = ["".join(piece.text for piece in word.pieces) for word in patterns]
            fits = any(fnmatchcase(subject, text) for text in texts)
            if fits or not known:
                walk.nodes(body)
            if fits and known:
                return

    def _for(self, node: For) -> None:
        words = [one for word in node.words for one in self._words(word)]
        if not node.words:
            words = self.run._values.get("@", "").split()
        for word in words[:MOST] or [UNKNOWN]:
            self.run.names.add(node.name)
            self.run._values[node.name] = word
            self.nodes(node.body)

    def _pipe(self, commands: Sequence[Node]) -> None:
        """`echo 1 | tee FILE` writes the 1: what echo prints is what the next command reads."""
        printed = ""
        walk = replace(self, sure=False)
        for command in commands:
            if not isinstance(command, Simple):
                walk._node(command)
                continue
            words = self._all(command.words)
            if words[:1] == ("echo",) or words[:1] == ("printf",):
                printed = _printed(words)
            else:
                walk._simple(command, printed)

    def _simple(self, node: Simple, given: str = "") -> None:
        words = self._all(node.words)
        if words[:1] == ("exit",) and self.sure:
            raise _Ended
        for name, word in node.assignments:
            self._named(name)
            if not words:
                self.run._values[name] = " ".join(self._words(word))
        if words[:1] in (("export",), ("local",), ("declare",), ("readonly",), ("typeset",)):
            # A list is one value: readonly CPUS=(2 3).
            whole = (" ".join(self._words(word)) for word in node.words[1:])
            named = [one.partition("=") for one in whole if "=" in one]
            for name, _, value in named:
                self._named(name)
                self.run._values[name] = value
            return
        if not words or self._is_followed(words, node):
            return
        targets = [word for operator, word in node.redirections if operator in _WRITES]
        writes = tuple(one for word in targets for one in self._words(word) if one != "/dev/null")
        made = Action(self.file, node.line, words, writes, given, node.background, self.loop)
        self.run.actions.append(made)

    def _named(self, name: str) -> None:
        """A variable is set, for sure or perhaps."""
        self.run.names.add(name)
        if self.sure:
            self.run._doubtful.discard(name)
        else:
            self.run._doubtful.add(name)

    def _is_followed(self, words: tuple[str, ...], node: Simple) -> bool:
        """Whether it is a function or a script, which are followed instead."""
        if self.depth >= _DEEPEST:
            return False
        deeper = replace(self, depth=self.depth + 1)
        body = self.run._functions.get(words[0])
        if body is not None:
            self.run._called.add(words[0])
            with self.run._arguments(words[1:]):
                deeper.nodes(body)
            return True
        path, arguments = _script(words)
        text = self.run.read(path) if path else None
        if text is None:
            return False
        shell = nullcontext() if words[0] in ("source", ".") else self.run._subshell()
        with shell, nullcontext() if arguments is None else self.run._arguments(arguments):
            replace(deeper, file=path).script(text)
        return True

    def _all(self, words: Sequence[Word]) -> tuple[str, ...]:
        return tuple(one for word in words for one in self._words(word))

    def _words(self, word: Word) -> list[str]:
        """What a word becomes: several words, where a variable without quotes has blanks or
        braces have a list."""
        text, split = "", False
        for piece in word.pieces:
            value = self._value(piece.kind, piece.text, piece.other, word.line)
            split = split or (piece.kind != "text" and not piece.quoted and " " in value)
            split = split or (piece.kind == "text" and not piece.quoted and piece.text == " ")
            text += value
        if not split and not any(piece.quoted for piece in word.pieces):
            return list(braces(text))
        return text.split() if split else [text]

    def _value(self, kind: str, text: str, other: str | None, line: int) -> str:
        if kind == "text":
            return text
        values = self.run._values
        value = of_code(text, values) if kind == "code" else of_variable(text, values, other)
        if value is not None:
            return value
        if text.isidentifier():
            self.run.unset.append((self.file, line, text))
        return UNKNOWN


def _printed(words: Sequence[str]) -> str:
    options = [word for word in words[1:2] if word in ("-n", "-e", "-en", "-ne")]
    return " ".join(words[1 + len(options) :]).removesuffix("\\n")


def _script(words: Sequence[str]) -> tuple[str, Sequence[str] | None]:
    """The path of the script that a command sources or runs, "" for none, and its arguments. One
    that is sourced without any has those of the script that does so."""
    if words[0] in ("source", ".") and len(words) > 1:
        return words[1], words[2:] or None
    if words[0].rpartition("/")[2] in ("sh", "bash") and len(words) > 1 and words[1][:1] != "-":
        return words[1], words[2:]
    return (words[0] if "/" in words[0] else ""), words[1:]
