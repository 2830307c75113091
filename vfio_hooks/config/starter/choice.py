"""A table that init writes, or leaves out."""

from vfio_hooks.record import record


@record
class Choice:
    """A table, "[pci]": why it is there, and its lines. One without `chosen` is left out, for
    that reason, and stands in the file as a comment. `problems` are what the VM's owner has to
    settle before it starts."""

    table: str
    why: str
    lines: tuple[str, ...] = ()
    chosen: bool = True
    problems: tuple[str, ...] = ()
