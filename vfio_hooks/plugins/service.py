"""System services that run only without the VM, or only with it.

There may be several tables, one for each unit:

    [[service]]
    unit = "ollama.service"

    [[service]]
    unit = "smb.service"
    action = "start"

When the VM ends, the unit runs again if it ran before, and only then. If several VMs need it in
different states, the VM that was started last decides. The unit is as before when the last of them
has ended.
"""

import re
from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.event import Event
from vfio_hooks.host import Host, units
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.unit import ACTIVE, INACTIVE, Unit
from vfio_hooks.record import record
from vfio_hooks.sharing import Override, Run
from vfio_hooks.steps import Step

MULTIPLE = True
_OURS = re.compile(r"(libvirtd|virtqemud|dbus|dbus-broker|systemd-journald)[-.].*")
"""What runs the hook, or what it needs."""


@record
class Options:
    unit: str
    """The unit, by its name in systemd's system manager. A name without a suffix is that of a
    service."""
    action: Literal["stop", "start", "restart"] = "stop"
    """What happens to the unit before the VM starts. "restart" leaves a unit alone that is not
    running; one that is running is restarted once more after the VM has ended."""
    timeout: float = 100.0
    """How many seconds each start or stop of the unit may take."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,255}", self.unit) or self.unit[0] in "-.":
            raise ValueError(f"unit: {self.unit!r} is not the name of a systemd unit")
        if _OURS.fullmatch(self.name):
            raise ValueError(f"unit: libvirt or its hook needs {self.name}")
        if self.timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds")

    @property
    def name(self) -> str:
        """The unit's full name."""
        return self.unit if "." in self.unit else f"{self.unit}.service"


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    if options.action == "restart":
        units.state(host, options.name)  # Raises Gone for one that is not there.
        restart = ("systemctl", "try-restart", "--", options.name)
        yield Step("service", Command(restart, restart, options.timeout), Run())
    else:
        wanted = ACTIVE if options.action == "start" else INACTIVE
        yield Step("service", Unit(options.name, options.timeout), Override(wanted))
