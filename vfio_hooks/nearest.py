"""Help for a mistyped name."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def meant(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name that `name` is probably a mistyping of."""
    from difflib import get_close_matches

    lower = {known.lower(): known for known in sorted(allowed, reverse=True)}
    close = get_close_matches(name.lower(), lower, n=1)
    return lower[close[0]] if close else None


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """The question "did you mean pci?", or "", for a failure that has the allowed names itself."""
    close = meant(name, allowed)
    return f"did you mean {close}?" if close else ""


def nearest(name: str, allowed: Iterable[str], all_in: str = "") -> str:
    """What to try instead of `name`: "did you mean pci? allowed: cpus, pci". Names that are too
    many for a line are left to what `all_in` says: "man vfio-hooks-check lists them"."""
    names = sorted(allowed)
    guess = did_you_mean(name, names)
    if guess and len(names) == 1:
        return guess
    return f"{guess} {all_in or 'allowed: ' + (', '.join(names) or 'none')}".strip()
