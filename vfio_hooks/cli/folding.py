"""Hundreds of changes that are one change to a person: shown as one."""

import re
from collections.abc import Sequence

from vfio_hooks.engine.plan import Change
from vfio_hooks.host.cpulist import format_list

_FEW = 3
_NUMBER = re.compile(r"[0-9]+")


def folded(changes: Sequence[Change]) -> list[tuple[str, Change]]:
    """A line for each change, those that do the same to things of the same kind in one line; and
    one of the changes that it stands for, which are all undone alike.

    "/proc/irq/{24-31,40}/smp_affinity_list: 0-7 → 0-3" stands for nine; where the things have
    names, the first few are told: "/proc/2 (kthreadd) and 37 more: 0-7 → 0-3". A line stands
    where the first of its changes does.
    """
    groups: dict[tuple[str, ...], list[Change]] = {}
    for change in changes:
        if change.problem:
            alike = (change.step.plugin, "problem", _NUMBER.sub("#", change.problem))
        else:
            alike = (change.step.plugin, change.step.knob.kind, _effect(change))
        groups.setdefault(alike, []).append(change)
    return [line for group in groups.values() for line in _lines(group)]


def _lines(group: Sequence[Change]) -> list[tuple[str, Change]]:
    if len(group) <= _FEW:
        return [(str(change), change) for change in group]
    if group[0].problem:
        return [(f"{group[0]} (and {len(group) - 1} more like it)", group[0])]
    return [(f"{_keys([change.step.key for change in group])}{_effect(group[0])}", group[0])]


def _effect(change: Change) -> str:
    """What follows the key in a change's own line."""
    return str(change).removeprefix(change.step.key)


def _keys(keys: Sequence[str]) -> str:
    """Keys that differ in one number only as one, else the first and how many more."""
    parts = [_NUMBER.split(key) for key in keys]
    numbers = [_NUMBER.findall(key) for key in keys]
    if all(part == parts[0] for part in parts):
        varying = [place for place, seen in enumerate(zip(*numbers, strict=True)) if _differ(seen)]
        if len(varying) == 1:
            (place,) = varying
            ids = format_list(int(found[place]) for found in numbers)
            pieces = [f"{number}" for number in numbers[0]]
            pieces[place] = f"{{{ids}}}"
            return "".join(
                text + piece for text, piece in zip(parts[0], [*pieces, ""], strict=True)
            )
    return f"{keys[0]} and {len(keys) - 1} more"


def _differ(seen: Sequence[str]) -> bool:
    return len(set(seen)) > 1
