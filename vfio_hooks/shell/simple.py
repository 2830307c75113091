"""Simple commands: variables that are set, words and redirections."""

import re

from vfio_hooks.shell.cursor import REDIRECTIONS, Cursor
from vfio_hooks.shell.tokens import Operator, Piece, Token, Word
from vfio_hooks.shell.tree import Simple

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)\+?=")


class SimpleCommands(Cursor):
    def _simple(self, first: Token) -> Simple:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirections: list[tuple[str, Word]] = []
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            if isinstance(token, Operator):
                if token.text not in REDIRECTIONS:
                    if token.text == "(" and token.glued and assignments and not words:
                        assignments[-1] = (assignments[-1][0], self._array(assignments[-1][1]))
                        continue
                    if token.text == "(" and token.glued and words:
                        # local NAME=(a b)
                        words[-1] = self._array(words[-1])
                        continue
                    break
                if token.glued and words and (words[-1].plain or "").isdecimal():
                    # The 2 of 2>FILE is no word.
                    words.pop()
                redirections.append(self._redirection())
            elif not words and (assigned := _assigned(token)):
                assignments.append(assigned)
                self.place += 1
            else:
                words.append(token)
                self.place += 1
        return Simple(first.line, tuple(assignments), tuple(words), tuple(redirections))

    def _array(self, opened: Word) -> Word:
        """NAME=(a b c), as one word with blanks."""
        self.place += 1
        pieces = list(opened.pieces)
        if pieces and pieces[-1].kind == "variable":
            # NAME+=(d)
            pieces.append(Piece("text", " "))
        while self._operator() != ")":
            token = self._token()
            self.place += 1
            if isinstance(token, Word):
                pieces += (*token.pieces, Piece("text", " "))
        self.place += 1
        return Word(opened.line, tuple(pieces))


def _is_element(word: Word) -> bool:
    """Whether it begins with NAME[INDEX]=."""
    text = "".join("0" if piece.kind != "text" else piece.text for piece in word.pieces)
    unquoted = bool(word.pieces) and not word.pieces[0].quoted
    return unquoted and re.match(r"[A-Za-z_]\w*\[[^]]*\]\+?=", text) is not None


def _assigned(word: Word) -> tuple[str, Word] | None:
    """The name and the value of NAME=value and NAME+=value."""
    first = word.pieces[0] if word.pieces else None
    if _is_element(word):
        # Only a part of the value is set, which is not followed.
        return word.pieces[0].text.partition("[")[0], Word(word.line, (Piece("code", ""),))
    found = _ASSIGNMENT.match(first.text) if first and first.kind == "text" else None
    if found is None or first is None or first.quoted:
        return None
    before = (Piece("variable", found[1], quoted=True, other=""),) if "+" in found[0] else ()
    rest = Piece("text", first.text[found.end() :])
    value = (rest, *word.pieces[1:]) if rest.text else word.pieces[1:]
    return found[1], Word(word.line, (*before, *value))
