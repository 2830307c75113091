"""A table that init writes, or leaves out."""

from vfio_hooks.record import record


@record
class Choice:
    """A table, "[pci]", with the reason for it, and its lines. If it is not `chosen`, it is in the
    file as a comment, and the reason says why. `problems` are what the VM's owner has to solve
    before the VM starts."""

    table: str
    why: str
    lines: tuple[str, ...] = ()
    chosen: bool = True
    problems: tuple[str, ...] = ()
