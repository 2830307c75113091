"""What a command of a script does to the host, and which table of vm.toml does the same.

A command is looked up as one line of text: its words, without sudo and the like, or, if it writes a
value into a file, "write VALUE > FILE". The first pattern that is found in it decides.
"""

import re

from vfio_hooks.migrate.meanings import cpus, devices, memory, modules, power, programs, session
from vfio_hooks.migrate.meanings.meaning import Meaning

MEANINGS = (
    *session.MEANINGS,
    *modules.MEANINGS,
    *devices.MEANINGS,
    *cpus.MEANINGS,
    *power.MEANINGS,
    *memory.MEANINGS,
    *programs.MEANINGS,
)


def meaning(command: str) -> tuple[Meaning, dict[str, str]] | None:
    """What a command's line of text is for, and the parts of it that the keys name; None if no
    pattern fits."""
    for one in MEANINGS:
        if found := re.search(one.pattern, command):
            return one, {name: part for name, part in found.groupdict().items() if part}
    return None
