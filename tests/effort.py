"""How much of the costly properties is tried: some at each run, all of it on demand."""

import os

THOROUGH = bool(os.environ.get("VFIO_HOOKS_THOROUGH"))
"""Set in a maintainer's run, see README.md here. What is tried is the same each time."""


def effort(usual: int, thorough: int) -> int:
    """How many examples, moments or VMs to try: the usual number, or that of a thorough run."""
    return thorough if THOROUGH else usual
