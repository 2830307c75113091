"""The keys of a configuration table, with their types, defaults and meanings, from its class."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vfio_hooks.config.options import Key, describe, keys, show
from vfio_hooks.manual.roff import Page
from vfio_hooks.record import MISSING, Field, fields


@dataclass
class _Item:
    """Keys that the docstring explains together, and what it says."""

    names: list[str] = field(default_factory=list)
    text: str = ""


def describe_keys(page: Page, options: type[Any]) -> None:
    """Add what the docstring of an Options class says, as one list item for each key."""
    intro, *items = explained(options)
    page.prose(intro.text)
    known = keys(options)
    defaults = {one.name: one for one in fields(options)}
    for item in items:
        tags = [_tag(name, known[name], defaults[name]) for name in item.names]
        # The tag says already what the sentence is about.
        page.item(tags, re.sub(r"^`\w+`: (\w)", lambda found: found[1].upper(), item.text))


def explained(options: type[Any]) -> list[_Item]:
    """The docstring, cut at each sentence in which a key is named for the first time. The first
    item is what comes before; a key that no sentence names is the last, without a text."""
    known = list(keys(options))
    items, seen = [_Item()], set[str]()
    for sentence in _sentences(options):
        new = [name for name in re.findall(r"`(\w+)`", sentence) if name in known]
        new = [name for name in dict.fromkeys(new) if name not in seen]
        if new:
            items.append(_Item(new))
            seen.update(new)
        items[-1].text = f"{items[-1].text} {sentence}".strip()
    return items + [_Item([name]) for name in known if name not in seen]


def _sentences(options: type[Any]) -> Iterator[str]:
    text = inspect.getdoc(options) or ""
    if text.startswith(f"{options.__name__}("):
        # That is what a dataclass has instead of a docstring.
        return
    yield from re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(text.split()))


def _tag(name: str, key: Key, of: Field) -> str:
    return f"`{name}` ({describe(key.kind)}; {_default(of)})"


def _default(of: Field) -> str:
    value = of.default
    if value is MISSING:
        if of.default_factory is MISSING:
            return "has to be given"
        value = of.default_factory()
    if value is None:
        return "not set by default"
    return f"default: {show(list(value) if isinstance(value, tuple) else value)}"
