"""What vfio-hooks(1) says of the command line, from its parser."""

from manual.roff import Page
from vfio_hooks.cli import parser, tree
from vfio_hooks.cli.tree import Argument, Verb


def _synopsis(page: Page) -> None:
    for verb in _verbs():
        page.prose(f"`{verb.usage.replace('[-h] ', '')}`")


def _options(page: Page) -> None:
    _arguments(page, _top())


def _each_verb(page: Page) -> None:
    for verb in _verbs():
        page.part(verb.name)
        page.prose(_sentence(verb.description))
        _arguments(page, verb)
        page.prose(verb.epilog)


def _examples(page: Page) -> None:
    page.prose(_top().epilog.removeprefix("examples:\n"))


PARTS = {
    "synopsis": _synopsis,
    "options": _options,
    "verbs": _each_verb,
    "examples": _examples,
}


def _top() -> Verb:
    return tree.read(parser())[0]


def _verbs() -> tuple[Verb, ...]:
    return tree.read(parser())[1]


def _arguments(page: Page, verb: Verb) -> None:
    for argument in (*verb.positionals, *verb.options):
        page.item([_tag(argument)], _sentence(argument.text) or "A VM's name.")


def _tag(argument: Argument) -> str:
    if not argument.flags:
        return f"`{argument.name}`"
    value = f" {argument.name}" if argument.name else ""
    return ", ".join(f"`{flag}`{value}" for flag in argument.flags)


def _sentence(text: str) -> str:
    """A help text as a sentence; one that starts with a value keeps its case."""
    whole = text[:1].upper() + text[1:] if text[:1].isalpha() else text
    return whole if not whole or whole.endswith(".") else f"{whole}."
