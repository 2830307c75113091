"""The host does not suspend while the VM runs, and does not sleep because the user is idle.

Input in a guest does not count as use of the host, so the host would fall asleep under it, and few
passed-through devices survive a suspend that their driver does not know of. So the VM holds a lock
of systemd-logind, which `systemd-inhibit --list` shows. The lock ends with the VM, even after a
crash of QEMU or libvirt.
"""

from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, units
from vfio_hooks.knobs.transient import Transient
from vfio_hooks.record import record
from vfio_hooks.services import lifetime
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

_LOGIND = "systemd-logind.service"
What = Literal[
    "sleep",
    "idle",
    "shutdown",
    "handle-power-key",
    "handle-suspend-key",
    "handle-hibernate-key",
    "handle-lid-switch",
]


@record
class Options:
    what: tuple[What, ...] = ("sleep", "idle")
    """What the VM keeps from happening, in the words of systemd-inhibit(1). "handle-lid-switch" is
    for laptops whose lid is closed while somebody plays."""

    def __post_init__(self) -> None:
        if not self.what:
            raise ValueError("what is empty, so there is nothing to inhibit")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    _check_logind(host)
    what, why = ":".join(dict.fromkeys(options.what)), f"--why=VM {domain.name} runs"
    lock = (
        "/usr/bin/systemd-inhibit",
        f"--what={what}",
        "--mode=block",
        "--who=vfio-hooks",
        why,
    )
    knob = Transient(
        f"vfio-hooks-inhibit-{domain.uuid}.service",
        (*lock, *lifetime(domain.name)),
        # On a host under load, logind may not answer in time.
        (f"Description=No suspend while VM {domain.name} runs", "Restart=on-failure"),
        title=f"inhibits {what.replace(':', ', ')}",
    )
    yield Step("inhibit", knob, Override(knob.value))


def _check_logind(host: Host) -> None:
    """Raise HookError if there is no logind. If it is only stopped, a request starts it."""
    try:
        if units.state(host, _LOGIND).load == "loaded":
            return
    except Gone:
        pass
    raise HookError(
        "this host has no systemd-logind, and nothing else can keep it from suspending",
        f"systemctl unmask {_LOGIND}, or remove [inhibit] from vm.toml",
    )
