"""Services that run beside a VM, as steps of a plan."""

from collections.abc import Sequence

from vfio_hooks.knobs import Command


def service(unit: str, description: str, program: Sequence[str], title: str) -> Command:
    """A system service that a VM's start does not wait for: it runs until it ends by itself, or
    the step is undone. `title` is what people are shown of it."""
    do = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}"]
    do += [f"--description={description}", *program]
    # As a pattern, since stopping a unit that has ended, or never came to be, is an error else.
    undo = ("systemctl", "stop", f"{unit}.servic[e]")
    told = f"{unit}.service: {title}"
    return Command(tuple(do), undo, title=told, undo_title="the service is stopped")
