"""TOML values as the types of a plugin's `Options`.

A key's type is str, int, float, bool, a Literal, tuple[type, ...], dict[str, type], or some of
these joined with "|". None in such a union only says that the key may be left out.
"""

import datetime
import json
import math
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from vfio_hooks.config.tomlfile import LONGEST
from vfio_hooks.record import fields, record

_NAMES = {
    str: ("a string", "strings"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
}
INTEGERS = range(-(1 << 63), 1 << 63)
"""TOML has no others."""


@record
class Key:
    """One key that a table may have, and whether it must have it."""

    kind: Any
    required: bool


def keys(options: type[Any]) -> dict[str, Key]:
    """The keys of a table, from its dataclass or record."""
    hints = get_type_hints(options)
    return {
        field.name: Key(
            hints[field.name],
            field.required,
        )
        for field in fields(options)
        if field.init
    }


def fit(value: object, kind: Any) -> Any:
    """A TOML value as a `kind`. Raises ValueError if it is not one."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _fit_one(value, kind)
    if origin is Literal:
        for choice in arguments:
            # For Python True is 1, for TOML it is not.
            if type(choice) is type(value) and choice == value:
                return choice
    elif origin is tuple and arguments[1:] == (...,):
        if isinstance(value, list):
            return tuple(fit(part, arguments[0]) for part in value)
    elif origin is dict and arguments[0] is str:
        if isinstance(value, dict):
            return {name: fit(part, arguments[1]) for name, part in value.items()}
    elif kind is float:
        if type(value) is float and math.isfinite(value):
            return value
        return float(fit(value, int))
    elif kind in _NAMES:
        if type(value) is kind and _is_sane(value):
            return value
    else:
        raise TypeError(f"{kind} is not a type that a TOML key can have")
    raise ValueError(f"not {describe(kind)}")


def describe(kind: Any) -> str:
    """What a value may be, in words."""
    return _describe(kind, 0)


def show(value: object) -> str:
    """A value as TOML writes it, shortened."""
    if isinstance(value, Mapping):
        text = "a table"
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        text = "an array of tables"
    elif isinstance(value, float | datetime.date | datetime.time):
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
    text = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"


def choices(kind: Any) -> list[str]:
    """The strings that a key may have, where these are the only ones."""
    if get_origin(kind) is Literal:
        return [choice for choice in get_args(kind) if isinstance(choice, str)]
    parts = get_args(kind) if get_origin(kind) in (Union, UnionType) else ()
    return [] if str in parts else [choice for part in parts for choice in choices(part)]


def _fit_one(value: object, union: Any) -> Any:
    for kind in get_args(union):
        if kind is NoneType:
            continue
        try:
            return fit(value, kind)
        except ValueError:
            pass
    raise ValueError(f"not {describe(union)}")


def _is_sane(value: object) -> bool:
    """Whether a value is usable: neither the kernel nor a command accepts a NUL, and TOML has no
    larger integers."""
    if isinstance(value, str):
        return "\0" not in value
    return not isinstance(value, int) or value in INTEGERS


def _describe(kind: Any, plural: Literal[0, 1]) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        parts = [_describe(part, plural) for part in arguments if part is not NoneType]
    elif origin is Literal:
        parts = [show(choice) for choice in arguments]
    elif origin is tuple:
        return f"{('a list', 'lists')[plural]} of {_describe(arguments[0], 1)}"
    elif origin is dict:
        return f"{('a table', 'tables')[plural]} of {_describe(arguments[1], 1)}"
    else:
        return _NAMES[kind][plural]
    return " or ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
