"""The words and operators of a shell script. https://pubs.opengroup.org/onlinepubs/9799919799/"""

import re
from collections.abc import Iterator
from typing import Literal

from vfio_hooks.record import record

_OPERATORS = ("<<-", "<<<", "&>>", "&&", "||", "|&", ";;", "<<", ">>", ">&", "<&", "&>", ">|", "<>")
_PROCESSES = ("<(", ">(")
"""Process substitution: a file with a command's output, or for its input."""
_SINGLE = ";&|<>()"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]")
_PLAIN = re.compile(
    r"\$\{(?P<name>[A-Za-z_]\w*|\d+|[@*])(?:\[[@*]\])?(?::?[-=](?P<other>[^}]*)|:?\?[^}]*)?\}"
)
_CLOSING = {"(": ")", "{": "}", "[": "]"}


class Unreadable(Exception):
    """A script is not understood from this line on."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line}: {why}")
        self.line = line
        self.why = why


@record
class Piece:
    """A part of a word: literal text, a variable's name, or code whose output replaces it. `other`
    replaces a variable without a value: ${NAME:-OTHER}."""

    kind: Literal["text", "variable", "code"]
    text: str
    quoted: bool = False
    other: str | None = None


@record
class Word:
    line: int
    pieces: tuple[Piece, ...]

    @property
    def plain(self) -> str | None:
        """The word if it is unquoted text, as every keyword is; otherwise None."""
        if len(self.pieces) == 1 and self.pieces[0].kind == "text" and not self.pieces[0].quoted:
            return self.pieces[0].text
        return None


@record
class Operator:
    """An operator. `glued` says that there is no blank before it, so a number there is a
    descriptor, as in 2>FILE."""

    line: int
    text: str
    glued: bool = False


Token = Word | Operator


def tokens(text: str) -> list[Token]:
    """A script's words and operators; the end of a line is the operator "\\n". Raises
    Unreadable."""
    return list(_Reader(text).read())


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.place = 0
        self.line = 1
        self.heredocs: list[tuple[str, bool]] = []
        self.awaits_heredoc = ""

    def read(self) -> Iterator[Token]:
        while self.place < len(self.text):
            here = self.text[self.place]
            if self.text.startswith("\\\n", self.place):
                self._skip(2)
            elif here in " \t":
                self._skip(1)
            elif here == "#":
                self._skip(len(self._rest_of_line()))
            elif here == "\n":
                yield Operator(self.line, "\n")
                self._skip(1)
                self._skip_heredocs()
            elif self.text.startswith(_PROCESSES, self.place):
                yield Word(self.line, (self._bracketed("(", quoted=False),))
            elif operator := self._operator():
                glued = self.text[self.place - 1 : self.place] not in ("", " ", "\t", "\n")
                yield Operator(self.line, operator, glued)
                heredoc = operator in ("<<", "<<-") and not self._is_in_sum()
                self.awaits_heredoc = operator if heredoc else ""
                self._skip(len(operator))
            else:
                yield self._word()
        yield Operator(self.line, "\n")

    def _operator(self) -> str:
        for operator in _OPERATORS:
            if self.text.startswith(operator, self.place):
                return operator
        here = self.text[self.place]
        return here if here in _SINGLE else ""

    def _is_in_sum(self) -> bool:
        """Whether this is in a ((...)), where << shifts bits."""
        before = self.text[self.text.rfind("\n", 0, self.place) + 1 : self.place]
        return before.count("((") > before.count("))")

    def _word(self) -> Word:
        line, pieces = self.line, list[Piece]()
        while self.place < len(self.text):
            here = self.text[self.place]
            if here in " \t\n" or here in _SINGLE:
                break
            if self.text.startswith("\\\n", self.place):
                self._skip(2)
            elif here == "\\":
                pieces.append(Piece("text", self.text[self.place + 1 : self.place + 2], True))
                self._skip(2)
            elif here == "'":
                pieces.append(Piece("text", self._until("'", 1), True))
            elif here == '"':
                pieces += self._double_quoted()
            elif here in "$`":
                pieces.append(self._expansion(quoted=False))
            else:
                end = self.place
                while end < len(self.text) and self.text[end] not in " \t\n\\'\"$`" + _SINGLE:
                    end += 1
                pieces.append(Piece("text", self.text[self.place : end]))
                self._skip(end - self.place)
        word = Word(line, tuple(pieces))
        if self.awaits_heredoc:
            ending = "".join(piece.text for piece in pieces)
            self.heredocs.append((ending, self.awaits_heredoc == "<<-"))
            self.awaits_heredoc = ""
        return word

    def _double_quoted(self) -> Iterator[Piece]:
        began = self.line
        self._skip(1)
        text = ""
        while True:
            if self.place >= len(self.text):
                raise Unreadable(began, 'a " is not closed')
            here = self.text[self.place]
            if here == '"':
                self._skip(1)
                yield Piece("text", text, True)
                return
            if here == "\\" and self.text[self.place + 1 : self.place + 2] in tuple('$`"\\\n'):
                following = self.text[self.place + 1]
                text += "" if following == "\n" else following
                self._skip(2)
            elif here in "$`":
                yield Piece("text", text, True)
                text = ""
                yield self._expansion(quoted=True)
            else:
                text += here
                self._skip(1)

    def _expansion(self, quoted: bool) -> Piece:
        if self.text[self.place] == "`":
            return Piece("code", self._until("`", 1), quoted)
        following = self.text[self.place + 1 : self.place + 2]
        if following in _CLOSING:
            return self._bracketed(following, quoted)
        if following == "'" and not quoted:
            self._skip(1)
            return Piece("text", self._until("'", 1), True)
        if found := _NAME.match(self.text, self.place + 1):
            self._skip(1 + len(found[0]))
            # "$@" is several words, even in quotes.
            return Piece("variable", found[0], quoted and found[0] != "@")
        self._skip(1)
        return Piece("text", "$", quoted)

    def _bracketed(self, opening: str, quoted: bool) -> Piece:
        """$(code), $((sum)), ${variable} or $[sum]."""
        if found := _PLAIN.match(self.text, self.place):
            self._skip(len(found[0]))
            # "${LIST[@]}" is several words, even in quotes.
            return Piece("variable", found["name"], quoted and "[" not in found[0], found["other"])
        began, end, depth = self.line, self.place + 2, 1
        while end < len(self.text) and depth:
            depth += {opening: 1, _CLOSING[opening]: -1}.get(self.text[end], 0)
            end += 1
        if depth:
            raise Unreadable(began, f"a ${opening} is not closed")
        code = self.text[self.place + 2 : end - 1]
        self._skip(end - self.place)
        return Piece("code", code, quoted)

    def _until(self, closing: str, opening: int) -> str:
        end = self.text.find(closing, self.place + opening)
        if end < 0:
            raise Unreadable(self.line, f"a {closing} is not closed")
        inside = self.text[self.place + opening : end]
        self._skip(end + 1 - self.place)
        return inside

    def _skip_heredocs(self) -> None:
        for ending, strip in self.heredocs:
            began = self.line
            while True:
                if self.place >= len(self.text):
                    raise Unreadable(began, f"the text up to {ending} has no end")
                line = self._rest_of_line()
                self._skip(len(line) + 1)
                if (line.lstrip("\t") if strip else line) == ending:
                    break
        self.heredocs.clear()

    def _rest_of_line(self) -> str:
        end = self.text.find("\n", self.place)
        return self.text[self.place : end if end >= 0 else len(self.text)]

    def _skip(self, count: int) -> None:
        self.line += self.text.count("\n", self.place, self.place + count)
        self.place += count
