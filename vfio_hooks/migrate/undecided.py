"""Lines that stay a script because what they do is only known when it runs."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

from vfio_hooks.migrate.verdict import VALUES, Options, Verdict
from vfio_hooks.record import replace
from vfio_hooks.shell.choices import Branch, Path, both
from vfio_hooks.shell.expansion import UNKNOWN

Setting: TypeAlias = tuple[str, Path, Options]
"""A table and its options, and the branches in which a script sets these."""

_NEEDED = {
    "service": ("unit",),
    "mdev": ("uuid",),
    "write": ("path", "value"),
    "usb": ("device",),
    "process": ("command",),
}
"""Options that a table needs, the one by which two tables differ first."""


def decided(found: Sequence[tuple[Path, Verdict]]) -> Iterator[Verdict]:
    """The verdicts on commands with the branches in which they stand. A line stays a script if a
    table would lack a value, or if another branch does the same with another value."""
    settings = dict.fromkeys((one.table, path, one.options) for path, one in found if _counts(one))
    contested = dict(_contested(list(settings)))
    for path, one in found:
        why = ""
        if _counts(one) and (choice := contested.get((one.table, path, one.options))):
            branch, values = choice
            why = f"{_place(branch, one)} decides when the script runs: {values}"
        elif one.kind == "table" and _is_vague(one):
            why = "what it changes is only known when the script runs"
        if why:
            yield replace(one, kind="keep", why=why, table="", kept_from=one.table)
        else:
            yield replace(one, why=one.why + _condition(path, one)) if _counts(one) else one


def _condition(path: Path, one: Verdict) -> str:
    """The words for a line that a test decides on, while its table is always used."""
    lines = [_place(branch, one) for branch in path if not branch.guards]
    return f"; in the script this depends on {' and '.join(lines)}" if lines else ""


def _place(branch: Branch, one: Verdict) -> str:
    """The line of an `if`, with its file if that is not the one of the verdict."""
    where = f" of {branch.file}" if branch.file != one.file else ""
    return f"line {branch.line}{where}"


def _counts(one: Verdict) -> bool:
    return one.kind == "table" and bool(one.options)


def _is_vague(one: Verdict) -> bool:
    """Whether a table lacks a value that it needs."""
    given = {name for name, value in one.options if UNKNOWN not in value}
    if one.table in VALUES:
        return len(given) < len(one.options)
    needed = _NEEDED.get(one.table, ())
    return not given.issuperset(needed) or (
        one.table == "shm" and UNKNOWN in one.command.split()[-1]
    )


def _contested(settings: Sequence[Setting]) -> Iterator[tuple[Setting, tuple[Branch, str]]]:
    """The settings of which a script makes only one or another, each with what decides that, and
    the words for the values."""
    for table in dict.fromkeys(table for table, _, _ in settings):
        here = [one for one in settings if one[0] == table]
        against: dict[Setting, dict[Setting, None]] = {}
        for one, other in combinations(here, 2):
            if both(one[1], other[1]) is None and _differ(one, other, here):
                # Both in the order of the script.
                against.setdefault(one, {one: None})[other] = None
                against.setdefault(other, {one: None})[other] = None
        for setting, several in against.items():
            yield setting, _choice(setting, list(several))


def _differ(one: Setting, other: Setting, settings: Sequence[Setting]) -> bool:
    """Whether two settings cannot both be meant by one table, or by two of them."""
    (table, path, options), (_, other_path, others) = one, other
    if table not in _NEEDED:
        known = dict(options)
        return any(known.get(name, value) != value for name, value in others)
    key = _NEEDED[table][0]
    mine, its = dict(options), dict(others)
    if mine.get(key) == its.get(key):
        return mine != its
    if "stop" == mine.get("action") == its.get("action") and UNKNOWN not in mine[key] + its[key]:
        # Of several units, those are stopped that run.
        return False
    return not (_is_set(options, other_path, settings) or _is_set(others, path, settings))


def _is_set(options: Options, path: Path, settings: Sequence[Setting]) -> bool:
    """Whether it is set in these branches as well."""
    return any(one == options and both(path, where) is not None for _, where, one in settings)


def _choice(setting: Setting, several: Sequence[Setting]) -> tuple[Branch, str]:
    other = next(one for one in several if both(setting[1], one[1]) is None)
    branch = next(one for one in other[1] if both(setting[1], (one,)) is None)
    texts = [" ".join(value for _, value in options) for _, _, options in several]
    known = [text for text in dict.fromkeys(texts) if UNKNOWN not in text]
    if len(known) < len(set(texts)):
        known.append("another value")
    return branch, " or ".join(known)
