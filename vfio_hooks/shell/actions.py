"""What a script would run: each command with its words, as far as these are constants."""

from collections.abc import Sequence
from contextlib import nullcontext, suppress

from vfio_hooks.record import replace
from vfio_hooks.shell.expansion import MOST, UNKNOWN
from vfio_hooks.shell.grammar import parse
from vfio_hooks.shell.prefixes import bare, inner_script, script_of, switched_to
from vfio_hooks.shell.printed import printed
from vfio_hooks.shell.run import Action, Ended, Returned, Run
from vfio_hooks.shell.tokens import Unreadable
from vfio_hooks.shell.tree import (
    Block,
    Case,
    For,
    Function,
    If,
    Node,
    Pipe,
    Simple,
    does_nothing,
    is_left,
)
from vfio_hooks.shell.walk import Walk, pieces_of

MOST_STEPS = 10_000
"""How many commands are followed, counting those of loops and functions each time."""
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
                with suppress(Ended):
                    _Walk(run, defined, sure=False).nodes(body)
        if run.steps > MOST_STEPS:
            line = run.actions[-1].line if run.actions else 1
            run.unread.append((file, Unreadable(line, "there is too much to follow")))


class _Walk(Walk):
    def script(self, text: str) -> None:
        body, error = parse(text)
        if error:
            self.run.unread.append((self.file, Unreadable(self.at or error.line, error.why)))
        self.nodes(body)

    def nodes(self, body: Sequence[Node]) -> None:
        for node in body:
            self._substituted(node)
            for walk in self._each_value(node):
                walk._node(node)

    def _substituted(self, node: Node) -> None:
        """Follow the commands in each $(...) of a command's words."""
        if not isinstance(node, Simple | For):
            return
        for piece in pieces_of(node):
            if piece.kind == "code" and not piece.text.startswith("("):
                walk = replace(self, at=self.at or node.line, sure=False, inside=True)
                with self.run.subshell():
                    walk.nodes(parse(piece.text)[0])

    def _node(self, node: Node) -> None:
        self.run.steps += 1
        if self.run.steps > MOST_STEPS:
            raise Ended
        match node:
            case Simple():
                self._simple(node)
            case Pipe(commands):
                self._pipe(commands)
            case Function(name, body):
                self.run.functions[name] = self.file, body
            case For():
                self._for(node)
            case If():
                self._if(node)
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

    def _if(self, node: If) -> None:
        """Follow the branch that is taken if that is known, otherwise all that may be taken."""
        walk, count = self, len(node.branches) + bool(node.branches[-1][0])
        for index, (decides, body) in enumerate(node.branches):
            walk.nodes(decides)
            holds = self._holds(decides) if decides else True
            if holds is None:
                walk = replace(walk, sure=False)
            if holds is not False:
                all_decide = [one for each, _ in node.branches[: index + 1] for one in each]
                taken = self._in_branch(node, index, count, all_decide)
                (walk if walk is self else taken).nodes(body)
            if holds:
                return

    def _chain(self, node: Block) -> None:
        """Follow the commands of A && B or A || B, without those that are surely not reached."""
        walk = self
        for command in node.body:
            if node.kind == "||" and does_nothing(command):
                return
            walk.nodes((command,))
            holds = self._holds((command,))
            if holds is (node.kind == "||"):
                return
            if holds is None:
                walk = self._in_branch(node, int(node.kind == "||"), 2, node.body[:1])

    def _case(self, node: Case) -> None:
        subject = " ".join(self._words(node.word))
        known = UNKNOWN not in subject and not self._is_doubtful(node.word)
        has_default = any(word.plain == "*" for arm, _ in node.arms for word in arm)
        count, doubtful = len(node.arms) + (not has_default), False
        for index, (patterns, body) in enumerate(node.arms):
            fits = self._fits(subject, patterns) if known else None
            doubtful = doubtful or fits is None
            if fits is not False:
                walk = self._in_branch(node, index, count) if doubtful else self
                walk.nodes(body)
            if fits:
                return

    def _for(self, node: For) -> None:
        words = self._all(node.words) if node.words else self.run.values.get("@", "").split()
        known = not self._is_doubtful(*node.words)
        # One more round stands for all that are too many.
        for word in [*words[:MOST], *([] if 0 < len(words) <= MOST else [UNKNOWN])]:
            self._assign(node.name, word, known)
            self.nodes(node.body)

    def _repeat(self, node: Block) -> None:
        """Follow a loop for one round in the middle: what a round changes is not known in it. To
        find that out, one round is followed without being noted."""
        run, before, count = self.run, self.run.values.copy(), len(self.run.actions)
        # A `while true` that something ends is no wait.
        body = node.body[1:] if does_nothing(node.body[0]) and is_left(node.body) else node.body
        walk = replace(self._reading(node), loop=True, sure=False, looks_ahead=True)
        walk.nodes(body)
        if self.looks_ahead:
            return
        del run.actions[count:]
        for name in [name for name in before if run.values.get(name) != before[name]]:
            run.values[name] = UNKNOWN
            run.histories.pop(name, None)
        replace(walk, looks_ahead=False).nodes(body)

    def _pipe(self, commands: Sequence[Node]) -> None:
        """Follow a pipe. `echo 1 | tee FILE` writes the 1: the next command reads what echo
        prints."""
        walk = replace(self, sure=False, given="")
        for command in commands:
            words = self._all(command.words) if isinstance(command, Simple) else ()
            text = printed(words, walk.given) if words and not self._writes(command) else None
            if text is not None:
                self._substituted(command)
                walk = replace(walk, given=text)
            else:
                walk.nodes((command,))

    def _simple(self, node: Simple) -> None:
        words = self._all(node.words)
        if words[:1] == ("exit",) and self.sure:
            raise Ended
        if words[:1] == ("return",) and self.sure and self.depth:
            raise Returned
        if words[:1] == ("shift",):
            self.run.shift("".join(words[1:2]) or "1", self.sure)
            return
        if self._sets(node, words):
            return
        self.run.names.update(name for name, _ in node.assignments)
        if self._is_followed(words, node):
            return
        line, writes = self.at or node.line, self._writes(node)
        self.run.actions.append(
            Action(
                *(self.file, line, words, writes, self._reading(node).given, node.background),
                *(self.loop, self.sure, self.user, self.called_at, self.path, self.inside),
            )
        )

    def _is_followed(self, words: tuple[str, ...], node: Simple) -> bool:
        """Whether the command is a function or a script, which is followed instead."""
        if self.depth >= _DEEPEST:
            return False
        if words in self.within:
            # A function that calls itself like this does the same again.
            return True
        deeper = replace(self, depth=self.depth + 1)
        line = self.at or node.line
        if words[0] in self.run.functions:
            self.run.called.add(words[0])
            file, body = self.run.functions[words[0]]
            with self.run.arguments(words[1:]), suppress(Returned):
                within = (*self.within, words)
                replace(deeper._in(file, line), at=0, within=within).nodes(body)
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
