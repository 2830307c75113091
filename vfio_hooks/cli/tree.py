"""The command line as data: what its completions and its manual page are made of."""

import argparse
from typing import Literal

from vfio_hooks.record import record

Kind = Literal["flag", "any", "words", "list", "file", "folder", "vm"]
"""What a value is: nothing, anything, one of some words, several of them with commas, ..."""


@record
class Argument:
    """An option, by its `flags`, or without any a positional argument. `words` are the values
    that it may have, where these are known."""

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
    kind, words = _values(name, action)
    return Argument(
        flags=tuple(action.option_strings),
        name="" if kind == "flag" else name,
        text=(action.help or "") % {**vars(action), "prog": "vfio-hooks"},
        kind=kind,
        words=words,
        optional=action.nargs == "?",
    )


def _values(name: str, action: argparse.Action) -> tuple[Kind, tuple[str, ...]]:
    """What may stand there, told by the name that the help gives it."""
    from vfio_hooks import ENDING, PLANNED
    from vfio_hooks.config import usable

    if action.nargs == 0:
        return "flag", ()
    if action.choices:
        return "words", tuple(map(str, action.choices))
    if name == "NAME,…":
        return "list", usable()
    kinds: dict[str, tuple[Kind, tuple[str, ...]]] = {
        "VM": ("vm", ()),
        "FILE": ("file", ()),
        "PATH": ("file", ()),
        "DIR": ("folder", ()),
        "OPERATION": ("words", PLANNED + ENDING),
        "SUBOP": ("words", ("begin", "end")),
    }
    return kinds.get(name, ("any", ()))
