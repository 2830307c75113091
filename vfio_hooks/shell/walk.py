"""A place in a script that is followed: what is known there, and what words become."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from glob import escape

from vfio_hooks.record import record, replace
from vfio_hooks.shell.choices import MOST_VALUES, Branch, Path, both, values_at
from vfio_hooks.shell.conditions import guards, holds, is_doubtful
from vfio_hooks.shell.expansion import UNKNOWN
from vfio_hooks.shell.run import Action, Run
from vfio_hooks.shell.tokens import Piece, Word
from vfio_hooks.shell.tree import Block, Case, For, If, Node, Pipe, Simple
from vfio_hooks.shell.words import expanded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    One = TypeVar("One", bound="Walk")

_WRITES = (">", ">>", ">|", "&>", "&>>")
_SETS = ("export", "local", "declare", "readonly", "typeset")
_READS = ("read", "mapfile", "readarray")
_NAME = re.compile(r"[A-Za-z_]\w*")
_LET = re.compile(
    r"([A-Za-z_]\w*) ?(?:\+\+|--|(?:[-+*/%&|^]|<<|>>)?=(?!=))|(?:\+\+|--)([A-Za-z_]\w*)"
)
"""A variable that a sum sets."""


@record
class Walk:
    """A walk through one file's commands. `sure`: these are reached whatever the host is like.
    `given` is what they read, `user` whom they run as, and `at` the line of a command whose
    argument they are; `called_at`, `path` and `inside` are as in Action. `looks_ahead`: this round
    of a loop is only for what it changes. `within` are the calls of functions that lead here, with
    their arguments."""

    run: Run
    file: str
    depth: int = 0
    loop: bool = False
    sure: bool = True
    given: str = ""
    user: str = ""
    at: int = 0
    called_at: int = 0
    path: Path = ()
    looks_ahead: bool = False
    inside: bool = False
    within: tuple[tuple[str, ...], ...] = ()

    def _in_branch(
        self: One, node: If | Case | Block, index: int, count: int, decides: Sequence[Node] = ()
    ) -> One:
        """The walk in a branch of an `if` that these commands decide when the script runs."""
        line = self.at or node.line
        branch = Branch(self.file, line, node.place, (index,), count, guards(decides))
        return replace(self, sure=False, path=both(self.path, (branch,)) or self.path)

    def _each_value(self: One, node: Node) -> Iterator[One]:
        """The walk once for each of the values that the command's variables may have here. They
        have them until the next one is asked for."""
        yield from self._each_of(_named(node, self.run.histories))

    def _each_of(self: One, names: Sequence[str]) -> Iterator[One]:
        if not names:
            yield self
            return
        several = values_at(self.run.histories.get(names[0], ()), self.path)
        if len(several) > 1 and max(len(several), len(self.path) + 1) > MOST_VALUES:
            several = [(self.path, UNKNOWN)]
        for path, value in several or [(self.path, self.run.values.get(names[0], UNKNOWN))]:
            self.run.values[names[0]] = value
            walk = self if path == self.path else replace(self, sure=False, path=path)
            yield from walk._each_of(names[1:])

    def _assign(self, name: str, value: str, sure: bool) -> None:
        self.run.assign(name, value, sure, self.path)

    def _holds(self, decides: Sequence[Node]) -> bool | None:
        return holds(decides, self._words, self.run.doubtful)

    def _fits(self, subject: str, patterns: Sequence[Word]) -> bool | None:
        """Whether one of the patterns of a `case` fits; None if that is not known."""
        fits: bool | None = False
        for word in patterns:
            parts = [(piece, self._part(word.line, piece)) for piece in word.pieces]
            pattern = "".join(escape(text) if piece.quoted else text for piece, text in parts)
            unknown = any(piece.kind != "text" and UNKNOWN in text for piece, text in parts)
            if unknown or self._is_doubtful(word):
                fits = None
            elif fnmatchcase(subject, pattern):
                return True
        return fits

    def _part(self, line: int, piece: Piece) -> str:
        """A part of a pattern, in which braces are nothing special."""
        if piece.kind == "text":
            return piece.text
        return "".join(self._words(Word(line, (piece,))))

    def _is_doubtful(self, *words: Word) -> bool:
        return is_doubtful(words, self.run.doubtful)

    def _reading(self: One, node: Simple | Block) -> One:
        """The same walk, in which commands read what this one is given with <."""
        walk = self
        for operator, word in node.redirections:
            known = operator == "<<<" or any(piece.kind == "code" for piece in word.pieces)
            if operator in ("<", "<<", "<<-", "<<<"):
                walk = replace(self, given=" ".join(self._words(word)) if known else UNKNOWN)
        return walk

    def _writes(self, node: Node) -> tuple[str, ...]:
        """The files that a command's output goes to."""
        named = node.redirections if isinstance(node, Simple) else ()
        targets = [word for operator, word in named if operator in _WRITES]
        return tuple(one for word in targets for one in self._words(word) if one != "/dev/null")

    def _sets(self, node: Simple, words: Sequence[str]) -> bool:
        """Whether it is a command that only sets variables; they are set then."""
        if words and words[0] not in (*_SETS, *_READS, ":", "let"):
            return False
        if words[:1] == ("let",):
            for found in _LET.finditer(" ".join(words[1:])):
                self._assign(found[1] or found[2], UNKNOWN, self.sure)
        for name, word in node.assignments:
            sure = self.sure and not self._is_doubtful(word)
            self._assign(name, " ".join(self._words(word)), sure)
        if words[:1] == (":",):
            # : "${NAME:=VALUE}"
            for piece in (one for word in node.words for one in word.pieces if one.other):
                self.run.values.setdefault(piece.text, piece.other or "")
            self.run.actions.append(Action(self.file, self.at or node.line, (":",), loop=self.loop))
        for word in node.words[1:]:
            # A list counts as one value: readonly CPUS=(2 3).
            name, given, value = " ".join(self._words(word)).partition("=")
            if given and words[0] in _SETS:
                self._assign(name, value, self.sure and not self._is_doubtful(word))
            elif words[0] in _READS and name.isidentifier():
                self._assign(name, self._reading(node).given or UNKNOWN, sure=False)
        return True

    def _all(self, words: Sequence[Word]) -> tuple[str, ...]:
        return tuple(one for word in words for one in self._words(word))

    def _words(self, word: Word) -> list[str]:
        return expanded(self.run, self.file, word, self.at)


def pieces_of(node: Node) -> list[Piece]:
    """The parts of a command's words that are replaced."""
    commands = node.commands if isinstance(node, Pipe) else (node,)
    words = [word for one in commands if isinstance(one, Simple | For) for word in one.words]
    for one in commands:
        if isinstance(one, Simple):
            words += [word for _, word in (*one.assignments, *one.redirections)]
    return [piece for word in words for piece in word.pieces if piece.kind != "text"]


def _named(node: Node, known: Collection[str]) -> list[str]:
    """Which of these variables a command's words name."""
    named = {name for piece in pieces_of(node) for name in _NAME.findall(piece.text)}
    return [name for name in known if name in named]
