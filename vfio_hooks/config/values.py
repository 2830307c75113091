"""One table's keys and values, validated against the options that they are for."""

import re
from collections.abc import Mapping
from typing import Any

from vfio_hooks.config.options import INTEGERS, Key, choices, describe, fit, keys, show
from vfio_hooks.config.tomlfile import Path, TomlFile
from vfio_hooks.errors import HookError, did_you_mean, nearest
from vfio_hooks.record import record


@record
class Value:
    """A validated value, and the file and key that it comes from."""

    value: Any
    file: TomlFile
    path: Path


Values = Mapping[str, Value]


@record
class Expected:
    """What a table may have: the keys of `options`, and some `more` that every table may have.
    `instead` says what to do in place of a key that people look for, or misunderstand."""

    options: type[Any]
    more: Mapping[str, Key]
    instead: Mapping[str, str]

    @property
    def keys(self) -> Mapping[str, Key]:
        return {**keys(self.options), **self.more}

    def missing(self, values: Values) -> list[str]:
        """The keys that the options need and that are missing."""
        own = keys(self.options).items()
        return [name for name, key in own if key.required and name not in values]


def values_of(
    file: TomlFile, path: Path, raw: Mapping[str, object], expected: Expected
) -> tuple[Values, list[HookError]]:
    """The values of a table that are right, and what is wrong with the others. The options' own
    check of the right ones is included, unless a key that it needs may be one of the wrong ones."""
    allowed = expected.keys
    values: dict[str, Value] = {}
    problems = []
    for name, value in raw.items():
        if name in allowed:
            kind = allowed[name].kind
            try:
                values[name] = Value(fit(value, kind), file, (*path, name))
                continue
            except ValueError:
                what = f"{name} in [{path[0]}] must be {describe(kind)}, not {show(value)}"
                hint = _suggestion(name, value, kind)
        else:
            what, hint = f"unknown key {show(name)} in [{path[0]}]", nearest(name, allowed)
        hint = expected.instead.get(name, hint)
        problems.append(HookError(f"{file.at((*path, name))}: {what}", hint))
    if problems and not expected.missing(values):
        try:
            construct(file, path, expected, values)
        except HookError as error:
            if set(re.findall(r"\w+", error.problem)) & allowed.keys() <= values.keys():
                problems.append(error)
    return values, problems


def construct(file: TomlFile, path: Path, expected: Expected, values: Values) -> Any:
    """The options. Raises HookError if their own check refuses them.

    If a check's message begins with a key ("timeout must be ...", "driver: ..."), the error has the
    place of that key.
    """
    own = {name: value.value for name, value in values.items() if name not in expected.more}
    try:
        return expected.options(**own)
    except ValueError as error:
        about = values.get(str(error).partition(" ")[0].rstrip(":"))
        where = about.file.at(about.path) if about else file.at(path)
        raise HookError(f"{where}: [{path[0]}]: {error}") from None


def _suggestion(name: str, value: object, kind: Any) -> str:
    if isinstance(value, int) and value not in INTEGERS:
        return "it has too many digits"
    try:
        if isinstance(value, list) and value:
            joined = fit(",".join(str(fit(one, int)) for one in value), kind)
            return f"write {name} = {show(joined)}"
        fit([value], kind)
        return f"write {name} = {show([value])}"
    except ValueError:
        # The error itself says what the value must be.
        return did_you_mean(value, choices(kind)) if isinstance(value, str) else ""
