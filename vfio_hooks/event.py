"""One call of the hook by libvirt. https://libvirt.org/hooks.html"""

from __future__ import annotations

from vfio_hooks import ENDING, PLANNED
from vfio_hooks.record import record

OPERATIONS = {
    **dict.fromkeys(PLANNED, "begin"),
    **dict.fromkeys(ENDING, "end"),
    **dict.fromkeys(("migrate", "restore", "reconnect", "attach"), "begin"),
}
"""Every operation that libvirt has, with the one sub-operation that it comes with."""


@record
class Event:
    """`object operation sub-operation extra`, "-" for none. Since libvirt 10.5, `extra` says at
    release why the guest stopped."""

    vm: str
    op: str
    subop: str = "begin"
    extra: str = "-"
