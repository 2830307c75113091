"""systemd's units as they are now. systemctl(1), "show", and org.freedesktop.systemd1(5)."""

from __future__ import annotations

from vfio_hooks.errors import Gone
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_FOLDERS = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/transient",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
DISPLAY_MANAGER = "display-manager.service"
"""The name that a distribution links to its display manager's own unit."""
_UP, _DOWN = ("active", "reloading", "refreshing"), ("inactive", "failed", "maintenance")


@record
class UnitState:
    """LoadState, ActiveState and SubState of a unit: "loaded", "active", "running"."""

    load: str
    active: str
    sub: str

    @property
    def runs(self) -> bool:
        """Whether it runs, or is about to. A service that fails and is started again and again is
        mostly about to run."""
        return self.active in (*_UP, "activating")

    @property
    def is_settled(self) -> bool:
        return self.active in (*_UP, *_DOWN) or self.sub.startswith("auto-restart")


def state(host: Host, unit: str) -> UnitState:
    """The state of a unit, of any type. Raises Gone if systemd has no such unit, and
    HookError if it cannot be asked."""
    if not host.is_this_machine:
        # A captured host has no systemd to ask, but a running service has a control group.
        active = host.exists(f"{ROOT}/system.slice/{unit}")
        return UnitState("loaded", "active" if active else "inactive", "")
    wanted = "LoadState,ActiveState,SubState"
    text = host.show(["systemctl", "show", f"--property={wanted}", "--", unit])
    fields = dict(line.partition("=")[::2] for line in text.splitlines())
    if fields.get("LoadState") == "not-found":
        raise Gone(f"{unit}: systemd has no such unit")
    return UnitState(*(fields.get(name, "") for name in wanted.split(",")))


def is_installed(host: Host, unit: str) -> bool:
    """Whether there is a file of that unit that does not mask it."""
    found = (f"{folder}/{unit}" for folder in _FOLDERS)
    first = next(filter(host.exists, found), None)
    return first is not None and host.link(first) != "null"


def is_display_manager(host: Host, unit: str) -> bool:
    """Whether a service is the display manager, by its alias or by its own name."""
    return unit in (DISPLAY_MANAGER, host.link(f"/etc/systemd/system/{DISPLAY_MANAGER}"))


def is_shutting_down(host: Host) -> bool:
    """Whether the host is on its way down: then systemd starts nothing any more."""
    if not host.is_this_machine:
        return False
    shown = host.show(["systemctl", "show", "--property=SystemState", "--value"])
    return shown.strip() == "stopping"
