"""Help for a mistyped name."""

import difflib
from collections.abc import Iterable


def nearest(name: str, allowed: Iterable[str], all_in: str = "") -> str:
    """What to try instead of `name`: "did you mean pci? allowed: cpus, pci". Names that are too
    many for a line are left to what `all_in` says: "man vfio-hooks-check lists them"."""
    names = sorted(allowed)
    lower = {known.lower(): known for known in reversed(names)}
    close = difflib.get_close_matches(name.lower(), lower, n=1)
    guess = f"did you mean {lower[close[0]]}? " if close else ""
    return guess + (all_in or f"allowed: {', '.join(names) or 'none'}")
