"""What a kind of command is for."""

from typing import Literal

from vfio_hooks.record import record

Kind = Literal["table", "needless", "keep", "mistake"]
"""A table does it; nothing is needed in its place; only a script can do it; it does harm, or not
what is meant."""
CPU_FILE = r"/sys/devices/system/cpu/\S*"
"""A pattern for files of a CPU, or of all CPUs."""


@record
class Meaning:
    """What a command is for. `table` is the facility, "" for none. `keys` name options of it, whose
    values are groups of `pattern`, or stand after a "="."""

    pattern: str
    kind: Kind
    table: str
    why: str
    keys: tuple[str, ...] = ()
