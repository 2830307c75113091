"""Parses the commands of a shell script into a tree. Raises Unreadable for what it does not
understand."""

from collections.abc import Collection

from vfio_hooks.shell.cursor import REDIRECTIONS
from vfio_hooks.shell.simple import SimpleCommands
from vfio_hooks.shell.tokens import Operator, Piece, Unreadable, Word, tokens
from vfio_hooks.shell.tree import Block, Case, For, Function, If, Node, Pipe, Simple

_JOINTS = ("&&", "||")
_PIPES = ("|", "|&")
_LOOPS = ("while", "until")
_UNREAD = ("select", "coproc")


def parse(text: str) -> tuple[tuple[Node, ...], Unreadable | None]:
    """A script's commands, and what was not understood, if anything; the rest after that is left
    out."""
    found: list[Node] = []
    try:
        parser = _Parser(tokens(text))
        while not parser.at_end():
            found.append(parser.one())
    except Unreadable as error:
        return tuple(found), error
    return tuple(found), None


class _Parser(SimpleCommands):
    def one(self) -> Node:
        """The next command, with the commands that pipes, && and || join to it."""
        line, place, found = self._token().line, self.place, self._piped()
        while (operator := self._operator()) in _JOINTS:
            self.place += 1
            self._skip_newlines()
            found = Block(line, operator, (found, self._piped()), place=place)
        return found

    def _piped(self) -> Node:
        commands = [self._command()]
        while self._operator() in _PIPES:
            self.place += 1
            self._skip_newlines()
            commands.append(self._command())
        if self._operator() == "&" and isinstance(commands[-1], Simple):
            last = commands[-1]
            commands[-1] = Simple(
                last.line, last.assignments, last.words, last.redirections, background=True
            )
        return Pipe(tuple(commands)) if len(commands) > 1 else commands[0]

    def _command(self) -> Node:
        token = self._token()
        if isinstance(token, Operator):
            if token.text in REDIRECTIONS:
                # >&2 echo TEXT
                return self._simple(token)
            if token.text != "(":
                raise Unreadable(token.line, f"{token.text!r} is not expected here")
            return self._sum(token) or self._closed_by_operator(token)
        keyword = token.plain
        if keyword == "!":
            self.place += 1
            return Block(token.line, "!", (self._command(),))
        if keyword in _UNREAD:
            raise Unreadable(token.line, f"{keyword} is not read")
        if keyword == "if":
            return self._if(token)
        if keyword in _LOOPS:
            return self._block(token, "done", ("do",))
        if keyword == "{":
            return self._block(token, "}", ())
        if keyword == "[[":
            return self._condition(token)
        if keyword == "for":
            return self._for(token)
        if keyword == "case":
            return self._case(token)
        return self._function() or self._simple(token)

    def _block(self, opening: Word, closing: str, inner: Collection[str]) -> Block:
        self.place += 1
        body = self._body(opening.line, (closing,), inner)
        self.place += 1
        return Block(opening.line, opening.plain or "", body, self._redirections())

    def _body(
        self, line: int, closing: Collection[str], inner: Collection[str]
    ) -> tuple[Node, ...]:
        """Commands up to a closing keyword, which is not consumed; inner keywords are skipped."""
        found: list[Node] = []
        while True:
            self._skip_separators()
            if self.place >= len(self.tokens):
                raise Unreadable(line, f"no {' or '.join(closing)} closes this")
            token = self.tokens[self.place]
            keyword = token.plain if isinstance(token, Word) else token.text
            if keyword in closing:
                return tuple(found)
            if keyword in inner:
                self.place += 1
            else:
                found.append(self.one())

    def _closed_by_operator(self, opening: Operator) -> Block:
        self.place += 1
        body = self._body(opening.line, (")",), ())
        self.place += 1
        return Block(opening.line, "(", body, self._redirections())

    def _if(self, opening: Word) -> If:
        branches = []
        while True:
            self.place += 1
            decides = self._body(opening.line, ("then",), ())
            self.place += 1
            branches.append((decides, self._body(opening.line, ("elif", "else", "fi"), ())))
            keyword = self._keyword()
            if keyword == "else":
                self.place += 1
                branches.append(((), self._body(opening.line, ("fi",), ())))
            if keyword != "elif":
                break
        self.place += 1
        self._redirections()
        return If(opening.line, tuple(branches), self.place)

    def _condition(self, opening: Word) -> Node:
        """[[ A && B ]] is [[ A ]] && [[ B ]]. A condition with other operators, such as <, is kept
        without its words."""
        tests: list[list[Word]] = [[]]
        operators: set[str] = set()
        while self.place < len(self.tokens):
            token = self.tokens[self.place]
            self.place += 1
            if isinstance(token, Operator):
                operators.add(token.text)
                tests.append([opening])
                continue
            tests[-1].append(token)
            if token.plain == "]]":
                return _joined(opening, [tuple(words) for words in tests], operators)
        raise Unreadable(opening.line, "no ]] closes this")

    def _sum(self, opening: Operator) -> Simple | None:
        """((...)), in which < and ; are not operators of the shell; None if there is none."""
        following = self.tokens[self.place + 1 : self.place + 2]
        if not following or following[0] != Operator(opening.line, "(", glued=True):
            return None
        depth = 0
        for place in range(self.place, len(self.tokens)):
            token = self.tokens[place]
            text = token.text if isinstance(token, Operator) else ""
            depth += {"(": 1, ")": -1}.get(text, 0)
            if not depth:
                inside = [one for one in self.tokens[self.place : place] if isinstance(one, Word)]
                self.place = place + 1
                let = Word(opening.line, (Piece("text", "let"),))
                return Simple(opening.line, words=(let, *inside))
        raise Unreadable(opening.line, "no )) closes this")

    def _for(self, opening: Word) -> For:
        self.place += 1
        name = self._token()
        if isinstance(name, Operator) and self._sum(name):
            return self._loop(For(opening.line, "", (), ()))
        if not isinstance(name, Word) or not name.plain:
            raise Unreadable(opening.line, "a for without a variable")
        self.place += 1
        self._skip_newlines()
        words: list[Word] = []
        if self._keyword() == "in":
            self.place += 1
            while self.place < len(self.tokens) and isinstance(self.tokens[self.place], Word):
                words.append(self._take_word())
        return self._loop(For(opening.line, name.plain, tuple(words), ()))

    def _loop(self, head: For) -> For:
        """The body of a `for` that has been read up to its `do`."""
        self._skip_separators()
        if self._keyword() != "do":
            raise Unreadable(head.line, "a for without do")
        self.place += 1
        body = self._body(head.line, ("done",), ())
        self.place += 1
        self._redirections()
        return For(head.line, head.name, head.words, body)

    def _case(self, opening: Word) -> Case:
        self.place += 1
        word = self._take_word()
        self._skip_newlines()
        if self._keyword() != "in":
            raise Unreadable(opening.line, "a case without in")
        self.place += 1
        arms: list[tuple[tuple[Word, ...], tuple[Node, ...]]] = []
        while True:
            self._skip_newlines()
            if self._keyword() == "esac":
                self.place += 1
                return Case(opening.line, word, tuple(arms), self.place)
            patterns: list[Word] = []
            while self._operator() != ")":
                token = self._token()
                patterns += [token] if isinstance(token, Word) else []
                self.place += 1
            self.place += 1
            arms.append((tuple(patterns), self._body(opening.line, (";;", "esac"), ())))
            if self._operator() == ";;":
                self.place += 1

    def _function(self) -> Function | None:
        """`name() {` or `function name {`; None if no function begins here."""
        token = self.tokens[self.place]
        begins = self.place + 1 if isinstance(token, Word) and token.plain == "function" else None
        name = self.tokens[self.place if begins is None else begins]
        after = self.place + (1 if begins is None else 2)
        brackets = [one.text for one in self.tokens[after : after + 2] if isinstance(one, Operator)]
        has_brackets = brackets == ["(", ")"]
        if not isinstance(name, Word) or not name.plain or (begins is None and not has_brackets):
            return None
        self.place = after + (2 if has_brackets else 0)
        self._skip_newlines()
        body = self._command()
        return Function(name.plain, body.body if isinstance(body, Block) else (body,))


def _joined(opening: Word, tests: list[tuple[Word, ...]], operators: set[str]) -> Node:
    simple = tuple(Simple(opening.line, words=words) for words in tests)
    if not operators:
        return simple[0]
    kind = operators.pop()
    if operators or kind not in _JOINTS:
        return Simple(opening.line, words=(opening,))
    return Block(opening.line, kind, simple)
