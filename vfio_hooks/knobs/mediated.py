"""A mediated device: a vGPU, made for a VM and removed again."""

from __future__ import annotations

import errno

from vfio_hooks.host import Host, WritableHost, mdev
from vfio_hooks.knobs.aside import write_aside
from vfio_hooks.knobs.base import Knob
from vfio_hooks.record import record

ABSENT = "not there"
_FASTER = (errno.ENOENT, errno.ENODEV, errno.EAGAIN)
"""Somebody else has removed it, or is doing so."""


@record
class Mediated(Knob):
    """The mediated device with a UUID; the value is its type while it exists. `parent` is the
    device that it is made of, as in /sys/class/mdev_bus: "0000:00:02.0".

    The kernel does not remove a device that a guest has: the write waits until the guest has ended.
    """

    uuid: str
    parent: str
    seconds: float = 30
    kind = "mdev"

    @property
    def key(self) -> str:
        return f"{mdev.DEVICES}/{self.uuid}"

    @property
    def lag(self) -> float:
        # A device is in sysfs before its type is.
        return self.seconds

    def read(self, host: Host) -> str:
        return mdev.type_of(host, self.uuid) or ABSENT

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        now = self.read(host)
        kind = None if value == ABSENT else value
        child = f"{mdev.PARENTS}/{self.parent}/{self.uuid}"
        shown = {f"{folder}/mdev_type": kind for folder in (self.key, child)}
        # Only the driver knows how this changes the room for other types.
        for kind, more in ((now, 1), (value, -1)):
            file = f"{mdev.types_folder(self.parent)}/{kind}/available_instances"
            free = host.maybe(file) or ""
            if now != value and free.isdecimal():
                shown[file] = str(int(free) + more)
        return shown

    def _write(self, host: WritableHost, value: str) -> None:
        if value == ABSENT:
            action, path, text = "remove the mediated device", f"{self.key}/remove", "1"
        else:
            action = f"make a mediated device {value} of {self.parent}"
            path, text = f"{mdev.types_folder(self.parent)}/{value}/create", self.uuid
        tolerated = _FASTER if value == ABSENT else ()
        write_aside(host, self.uuid, path, text, self.seconds, action, tolerated)
