"""A place in a script's tokens."""

from vfio_hooks.shell.tokens import Operator, Token, Unreadable, Word

REDIRECTIONS = (">", ">>", "<", "<<", "<<-", "<<<", ">&", "<&", "&>", "&>>", ">|", "<>")
_SEPARATORS = ("\n", ";", "&", "&&", "||", "|", "|&")


class Cursor:
    """Reads tokens one after the other. What is not expected raises Unreadable."""

    def __init__(self, found: list[Token]) -> None:
        self.tokens = found
        self.place = 0

    def at_end(self) -> bool:
        self._skip_separators()
        return self.place >= len(self.tokens)

    def _redirections(self) -> tuple[tuple[str, Word], ...]:
        found = []
        while True:
            token = self.tokens[self.place] if self.place < len(self.tokens) else None
            if isinstance(token, Word) and (token.plain or "").isdecimal():
                self.place += 1
            elif isinstance(token, Operator) and token.text in REDIRECTIONS:
                found.append(self._redirection())
            else:
                return tuple(found)

    def _redirection(self) -> tuple[str, Word]:
        operator = self.tokens[self.place]
        assert isinstance(operator, Operator)
        self.place += 1
        return operator.text, self._take_word()

    def _take_word(self) -> Word:
        token = self._token()
        if not isinstance(token, Word):
            raise Unreadable(token.line, f"{token.text!r} is not expected here")
        self.place += 1
        return token

    def _token(self) -> Token:
        if self.place >= len(self.tokens):
            last = self.tokens[-1].line if self.tokens else 1
            raise Unreadable(last, "the script ends in the middle of a command")
        return self.tokens[self.place]

    def _operator(self) -> str:
        token = self._token() if self.place < len(self.tokens) else None
        return token.text if isinstance(token, Operator) else ""

    def _keyword(self) -> str | None:
        token = self._token()
        return token.plain if isinstance(token, Word) else None

    def _skip_separators(self) -> None:
        while self.place < len(self.tokens) and self._operator() in _SEPARATORS:
            self.place += 1

    def _skip_newlines(self) -> None:
        while self.place < len(self.tokens) and self._operator() == "\n":
            self.place += 1
