"""What a script would run: each command with its words, as far as these are constants."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from fnmatch import fnmatchcase

from vfio_hooks.record import record, replace
from vfio_hooks.shell.conditions import holds, is_doubtful
from vfio_hooks.shell.expansion import MOST, UNKNOWN
from vfio_hooks.shell.grammar import parse
from vfio_hooks.shell.prefixes import bare, inner_script, script_of, switched_to
from vfio_hooks.shell.printed import printed
from vfio_hooks.shell.run import Action, Ended, Returned, Run
from vfio_hooks.shell.tokens import Unreadable, Word
from vfio_hooks.shell.tree import Block, Case, For, Function, If, Node, Pipe, Simple
from vfio_hooks.shell.words import expanded

_WRITES = (">", ">>", ">|", "&>", "&>>")
_SETS = ("export", "local", "declare", "readonly", "typeset")
_READS = ("read", "mapfile", "readarray")
_DEEPEST = 8


def follow(run: Run, file: str, text: str, arguments: Sequence[str] = ()) -> None:
    """Follow a script to its end. What it never calls it does not do; but where it calls
    something that is known only when it runs, that may be any of its functions."""
    with run.arguments(arguments):
        with suppress(Ended):
            _Walk(run, file).script(text)
        if any(action.words[0] == UNKNOWN for action in run.actions):
            for name in [name for name in run.functions if name not in run.called]:
                defined, body = run.functions[name]
                _Walk(run, defined, sure=False).nodes(body)


@record
class _Walk:
    """A walk through one file's commands. `sure`: these are reached whatever the host is like.
    `given` is what they read, `user` whom they run as, and `at` the line of a command whose
    argument they are; `called_at` is as in Action."""

    run: Run
    file: str
    depth: int = 0
    loop: bool = False
    sure: bool = True
    given: str = ""
    user: str = ""
    at: int = 0
    called_at: int = 0

    def script(self, text: str) -> None:
        body, error = parse(text)
        if error:
            self.run.unread.append((self.file, Unreadable(self.at or error.line, error.why)))
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
                self.run.functions[name] = self.file, body
            case For():
                self._for(node)
            case If(branches=branches):
                self._if(branches)
            case Case():
                self._case(node)
            case Block(kind="while" | "until"):
                self._repeat(node)
            case Block(kind="&&" | "||"):
                self._chain(node)
            case Block(kind="("):
                with self.run.subshell():
                    self.nodes(node.body)
            case Block():
                self._reading(node).nodes(node.body)

    def _if(self, branches: Sequence[tuple[Sequence[Node], Sequence[Node]]]) -> None:
        """Follow the branch that is taken if that is known, otherwise all that may be taken."""
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
        """Follow the commands of A && B or A || B, without those that are surely not reached."""
        walk = self
        for command in node.body:
            walk._node(command)
            holds = self._holds((command,))
            if holds is (node.kind == "||"):
                return
            walk = walk if holds is not None else replace(self, sure=False)

    def _holds(self, decides: Sequence[Node]) -> bool | None:
        return holds(decides, self._words, self.run.doubtful)

    def _is_doubtful(self, *words: Word) -> bool:
        return is_doubtful(words, self.run.doubtful)

    def _case(self, node: Case) -> None:
        subject = " ".join(self._words(node.word))
        known = UNKNOWN not in subject and not self._is_doubtful(node.word)
        walk = replace(self, sure=self.sure and known)
        for patterns, body in node.arms:
            texts = ["".join(piece.text for piece in word.pieces) for word in patterns]
            fits = any(fnmatchcase(subject, text) for text in texts)
            if fits or not known:
                walk.nodes(body)
            if fits and known:
                return

    def _for(self, node: For) -> None:
        words = self._all(node.words) if node.words else self.run.values.get("@", "").split()
        known = not self._is_doubtful(*node.words)
        # One more round stands for all that are too many.
        for word in [*words[:MOST], *([] if 0 < len(words) <= MOST else [UNKNOWN])]:
            self.run.assign(node.name, word, sure=known)
            self.nodes(node.body)

    def _repeat(self, node: Block) -> None:
        """Follow a loop for one round in the middle: what a round changes is not known in it."""
        run, before, count = self.run, self.run.values.copy(), len(self.run.actions)
        walk = replace(self._reading(node), loop=True, sure=False)
        walk.nodes(node.body)
        if changed := [name for name in before if run.values.get(name) != before[name]]:
            del run.actions[count:]
            run.values |= dict.fromkeys(changed, UNKNOWN)
            walk.nodes(node.body)

    def _pipe(self, commands: Sequence[Node]) -> None:
        """Follow a pipe. `echo 1 | tee FILE` writes the 1: the next command reads what echo
        prints."""
        walk = replace(self, sure=False, given="")
        for command in commands:
            words = self._all(command.words) if isinstance(command, Simple) else ()
            text = printed(words, walk.given) if words and not self._writes(command) else None
            if text is not None:
                walk = replace(walk, given=text)
            else:
                walk._node(command)

    def _reading(self, node: Simple | Block) -> "_Walk":
        """The same walk, in which commands read what this one is given with <."""
        walk = self
        for operator, word in node.redirections:
            known = operator == "<<<" or any(piece.kind == "code" for piece in word.pieces)
            if operator in ("<", "<<", "<<-", "<<<"):
                walk = replace(self, given=" ".join(self._words(word)) if known else UNKNOWN)
        return walk

    def _simple(self, node: Simple) -> None:
        words = self._all(node.words)
        if words[:1] == ("exit",) and self.sure:
            raise Ended
        if words[:1] == ("return",) and self.sure and self.depth:
            raise Returned
        if words[:1] == ("shift",):
            self.run.shift("".join(words[1:2]) or "1", self.sure)
            return
        if not words or words[0] in (*_SETS, *_READS, ":"):
            self._sets(node, words)
            return
        self.run.names.update(name for name, _ in node.assignments)
        if self._is_followed(words, node):
            return
        line, writes = self.at or node.line, self._writes(node)
        self.run.actions.append(
            Action(
                *(self.file, line, words, writes, self._reading(node).given),
                *(node.background, self.loop, self.sure, self.user, self.called_at),
            )
        )

    def _writes(self, node: Node) -> tuple[str, ...]:
        """The files that a command's output goes to."""
        named = node.redirections if isinstance(node, Simple) else ()
        targets = [word for operator, word in named if operator in _WRITES]
        return tuple(one for word in targets for one in self._words(word) if one != "/dev/null")

    def _sets(self, node: Simple, words: Sequence[str]) -> None:
        """A command that sets variables."""
        for name, word in node.assignments:
            sure = self.sure and not self._is_doubtful(word)
            self.run.assign(name, " ".join(self._words(word)), sure)
        if words[:1] == (":",):
            # : "${NAME:=VALUE}"
            for piece in (one for word in node.words for one in word.pieces if one.other):
                self.run.values.setdefault(piece.text, piece.other or "")
            self.run.actions.append(Action(self.file, self.at or node.line, (":",), loop=self.loop))
        for word in node.words[1:]:
            # A list counts as one value: readonly CPUS=(2 3).
            name, given, value = " ".join(self._words(word)).partition("=")
            if given and words[0] in _SETS:
                self.run.assign(name, value, self.sure and not self._is_doubtful(word))
            elif words[0] in _READS and name.isidentifier():
                self.run.assign(name, self._reading(node).given or UNKNOWN, sure=False)

    def _is_followed(self, words: tuple[str, ...], node: Simple) -> bool:
        """Whether the command is a function or a script, which is followed instead."""
        if self.depth >= _DEEPEST:
            return False
        deeper = replace(self, depth=self.depth + 1)
        line = self.at or node.line
        if words[0] in self.run.functions:
            self.run.called.add(words[0])
            file, body = self.run.functions[words[0]]
            with self.run.arguments(words[1:]), suppress(Returned):
                deeper._in(file, line).nodes(body)
            return True
        plain, user = bare(words)
        deeper = replace(deeper, user=user or self.user)
        return deeper._is_inner(plain, line) or deeper._is_script(plain, line)

    def _is_inner(self, words: Sequence[str], line: int) -> bool:
        """Whether it is sh -c SCRIPT or the like."""
        inner = inner_script(words)
        if inner is None:
            return False
        walk = replace(self, at=line, user=switched_to(words) or self.user)
        with nullcontext() if words[0] == "eval" else self.run.subshell():
            walk.script(inner)
        return True

    def _in(self, file: str, line: int) -> "_Walk":
        """The walk in a file that this line has led to."""
        if file == self.file:
            return self
        return replace(self, file=file, at=0, called_at=self.called_at or line)

    def _is_script(self, words: Sequence[str], line: int) -> bool:
        paths, arguments = script_of(words)
        for path in paths:
            text = self.run.read(path)
            if text is None:
                continue
            sourced = words[0] in ("source", ".")
            shell = suppress(Returned) if sourced else self.run.subshell()
            with shell, nullcontext() if arguments is None else self.run.arguments(arguments):
                self._in(path, line).script(text)
            return True
        return False

    def _all(self, words: Sequence[Word]) -> tuple[str, ...]:
        return tuple(one for word in words for one in self._words(word))

    def _words(self, word: Word) -> list[str]:
        return expanded(self.run, self.file, word, self.at)
