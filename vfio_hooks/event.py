"""One call of the hook by libvirt. https://libvirt.org/hooks.html"""

from __future__ import annotations

from vfio_hooks.record import record

PLANNED = ("prepare", "start", "started")
"""The operations that may change the host. They are also the only ones in which a failure is
told to libvirt; "started" only where the VM's owner asked for it, as it kills the guest."""
ENDING = ("stopped", "release")
"""The operations that undo. They may come without any of the others, twice, or never."""
OPERATIONS = {
    **dict.fromkeys(PLANNED, "begin"),
    **dict.fromkeys(ENDING, "end"),
    **dict.fromkeys(("migrate", "restore", "reconnect", "attach"), "begin"),
}
"""Every operation that libvirt has, with the one sub-operation that it comes with."""


@record
class Event:
    """`object operation sub-operation extra`, "-" for none. Since libvirt 10.5 `extra` tells at
    release why the guest stopped."""

    vm: str
    op: str
    subop: str = "begin"
    extra: str = "-"
