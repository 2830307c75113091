"""Numbers of things in messages, with the noun and the verb that go with one or several."""

from __future__ import annotations

from vfio_hooks.host.cpulist import format_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


def counted(count: int, noun: str) -> str:
    """ "1 page", "3 pages", "0 pages"; for nouns whose plural ends in "s"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def numbered(noun: str, numbers: Collection[int]) -> str:
    """ "CPU 3", "CPUs 0-3,8": things that have numbers, as a CPU list."""
    return f"{noun}{'' if len(numbers) == 1 else 's'} {format_list(numbers)}"


def verb(count: int, one: str = "is", several: str = "are") -> str:
    """The form of a verb for so many."""
    return one if count == 1 else several
