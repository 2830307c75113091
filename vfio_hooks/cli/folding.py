"""Shows hundreds of changes that are one change to a person as one."""

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

from vfio_hooks.engine.plan import Change
from vfio_hooks.host.cpulist import format_list

_FEW = 3
_NUMBER = re.compile(r"[0-9]+")
Thing = TypeVar("Thing")


def grouped(things: Sequence[Thing], likeness: Callable[[Thing], Hashable]) -> list[list[Thing]]:
    """Things of the same likeness together, where the first of them is; a few are one by one."""
    groups: dict[Hashable, list[Thing]] = {}
    for thing in things:
        groups.setdefault(likeness(thing), []).append(thing)
    parted = (
        [group] if len(group) > _FEW else [[one] for one in group] for group in groups.values()
    )
    return [part for parts in parted for part in parts]


def folded(changes: Sequence[Change]) -> list[tuple[str, Change]]:
    """The lines for some changes, each with one of the changes that it stands for, which are all
    undone alike. Changes that do the same to things of the same kind share a line.

    "/proc/irq/{24-31,40}/smp_affinity_list: 0-7 → 0-3" stands for nine. If the things have names,
    the first is shown: "/proc/2 (kthreadd) and 37 more: 0-7 → 0-3". A line is at the place of the
    first of its changes.
    """
    return [(_line(group), group[0]) for group in grouped(changes, _likeness)]


def _likeness(change: Change) -> Hashable:
    if change.problem:
        return change.step.plugin, "problem", _NUMBER.sub("#", change.problem)
    return change.step.plugin, change.step.knob.kind, _effect(change)


def _line(group: Sequence[Change]) -> str:
    if len(group) == 1:
        return str(group[0])
    if group[0].problem:
        return f"{group[0]} (and {len(group) - 1} more like it)"
    return f"{common_key([change.step.key for change in group])}{_effect(group[0])}"


def _effect(change: Change) -> str:
    """What follows the key in a change's own line."""
    return str(change).removeprefix(change.step.key)


def common_key(keys: Sequence[str]) -> str:
    """Keys that differ in one number only, as one key; otherwise the first and how many more."""
    if len(keys) == 1:
        return keys[0]
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
