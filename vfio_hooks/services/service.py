"""Services that run beside a VM, as steps of a plan."""

from collections.abc import Sequence

from vfio_hooks.knobs.command import Command


def service(
    unit: str, description: str, program: Sequence[str], title: str, stays: bool = True
) -> Command:
    """A system service that a VM's start does not wait for: it runs until the step is undone, or,
    where it does not stay, until it ends by itself. `title` is what people are shown of it."""
    do = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}"]
    do += [f"--description={description}", *program]
    # As a pattern, since stopping a unit that has ended, or never came to be, is an error else.
    undo = ("systemctl", "stop", f"{unit}.servic[e]")
    told = f"{unit}.service: {title}"
    return Command(
        tuple(do),
        undo,
        title=told,
        undo_title="the service is stopped",
        unit=f"{unit}.service" if stays else "",
    )
