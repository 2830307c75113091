"""Services that run beside a VM, as steps of a plan."""

from collections.abc import Sequence

from vfio_hooks.knobs.command import Command


def service(
    unit: str, description: str, program: Sequence[str], title: str, stays: bool = True
) -> Command:
    """A system service for which a VM's start does not wait. It runs until the step is undone or,
    if not `stays`, until it ends by itself. `title` is what people see."""
    do = ["systemd-run", "--quiet", "--collect", "--no-block", f"--unit={unit}"]
    do += [f"--description={description}", *program]
    # As a pattern: without one, stopping a unit that has ended or never existed is an error.
    undo = ("systemctl", "stop", f"{unit}.servic[e]")
    told = f"{unit}.service: {title}"
    return Command(
        tuple(do),
        undo,
        title=told,
        undo_title="the service is stopped",
        unit=f"{unit}.service" if stays else "",
    )
