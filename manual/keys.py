"""The keys of a configuration table: types and defaults from its class, texts from its source."""

import ast
import inspect
import textwrap
from typing import Any

from manual.roff import Page
from vfio_hooks.config.options import Key, describe, keys, show
from vfio_hooks.record import MISSING, Field, fields


def describe_keys(page: Page, options: type[Any]) -> None:
    """Add a list item for each key of an Options class."""
    known, told = keys(options), texts(options)
    for one in fields(options):
        page.item([_tag(one, known[one.name])], told.get(one.name, ""))


def texts(options: type[Any]) -> dict[str, str]:
    """What each key means: the string that follows it in the class. Python compiles such a string
    to nothing, so an event of a VM does not load it."""
    (of,) = ast.parse(textwrap.dedent(inspect.getsource(options))).body
    if not isinstance(of, ast.ClassDef):
        raise TypeError(f"{options} is no class")
    found = {}
    for key, text in zip(of.body, of.body[1:], strict=False):
        match key, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                found[name] = inspect.cleandoc(said)
    return found


def _tag(of: Field, key: Key) -> str:
    return f"`{of.name}` ({describe(key.kind)}; {_default(of)})"


def _default(of: Field) -> str:
    if of.required:
        return "must be given"
    value = of.default_factory() if of.default is MISSING else of.default
    if value is None:
        return "not set by default"
    if value == {}:
        return "default: {}"
    return f"default: {show(list(value) if isinstance(value, tuple) else value)}"
