"""The command line as data: what its completions and its manual page are made of."""

import argparse

from vfio_hooks.cli.metavars import Kind, Value
from vfio_hooks.record import record


@record
class Argument:
    """An option with `flags`, or, without flags, a positional argument. `words` are the values that
    it may have, if these are known."""

    flags: tuple[str, ...]
    name: str
    text: str
    kind: Kind
    words: tuple[str, ...] = ()
    optional: bool = False


@record
class Verb:
    """A verb, or with no name the command itself. `line` is for the list of verbs."""

    name: str
    line: str
    usage: str
    description: str
    epilog: str
    options: tuple[Argument, ...]
    positionals: tuple[Argument, ...]


def read(parser: argparse.ArgumentParser) -> tuple[Verb, tuple[Verb, ...]]:
    """The command itself, and its verbs."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            lines = {one.dest: one.help or "" for one in action._choices_actions}
            found = [_verb(name, lines[name], one) for name, one in action.choices.items()]
    return _verb("", parser.description or "", parser), tuple(found)


def _verb(name: str, line: str, parser: argparse.ArgumentParser) -> Verb:
    known = [one for one in parser._actions if not isinstance(one, argparse._SubParsersAction)]
    arguments = [_argument(action) for action in known]
    return Verb(
        name=name,
        line=line,
        usage=" ".join(parser.format_usage().split()[1:]),
        description=parser.description or "",
        epilog=parser.epilog or "",
        options=tuple(one for one in arguments if one.flags),
        positionals=tuple(one for one in arguments if not one.flags),
    )


def _argument(action: argparse.Action) -> Argument:
    name = action.metavar if isinstance(action.metavar, str) else action.dest
    kind, words = _values(action)
    return Argument(
        flags=tuple(action.option_strings),
        name="" if kind == "flag" else name,
        text=(action.help or "") % {**vars(action), "prog": "vfio-hooks"},
        kind=kind,
        words=words,
        optional=action.nargs == "?",
    )


def _values(action: argparse.Action) -> tuple[Kind, tuple[str, ...]]:
    """What may stand there."""
    if action.nargs == 0:
        return "flag", ()
    if action.choices:
        return "words", tuple(map(str, action.choices))
    if isinstance(action.metavar, Value):
        return action.metavar.kind, action.metavar.words()
    return "any", ()
