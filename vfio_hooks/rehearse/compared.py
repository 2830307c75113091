"""How two states of a host differ, and since when.

This needs only the standard library: see `observed`.
"""

from __future__ import annotations

from collections.abc import Mapping

from vfio_hooks.record import record


@record
class Changed:
    """A thing that differs from before a round: how, in words, and since which event, "the start of
    round 2"."""

    key: str
    how: str
    since: str

    def __str__(self) -> str:
        return f"{self.key}: {self.how}, since {self.since}"


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """How each thing that has changed differs, in words, by its name."""
    found = {}
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if key.startswith("line "):
            # A line interrupt that nobody uses is listed once a device has used it.
            old, new = old or "default", new or "default"
        if key.startswith("task "):
            # Tasks come and go, and change their names.
            if old and new and old.partition(" (")[0] != new.partition(" (")[0]:
                found[key] = f"{old} -> {new}"
        elif old is None:
            found[key] = f"new, {new!r}"
        elif new is None:
            found[key] = f"gone, was {old!r}"
        elif old != new:
            found[key] = f"{old!r} -> {new!r}"
    return found


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """One readable line for each thing that has changed."""
    return [f"{key}: {how}" for key, how in changes(before, after).items()]


def since_when(
    before: Mapping[str, str], running: Mapping[str, str], after: Mapping[str, str], number: int
) -> list[Changed]:
    """What a round has left changed, from three looks at the host. If a thing changed at the start
    and stayed so, the start's change was not put back. If it changed later, the end did it."""
    stayed = changes(before, running).keys() - changes(running, after).keys()
    return [
        Changed(key, how, f"the {'start' if key in stayed else 'end'} of round {number}")
        for key, how in changes(before, after).items()
    ]
