"""Who may use a file or device node that memory is shared through."""

from __future__ import annotations

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.shared_memory import OURS_ALONE, Access, Shared
from vfio_hooks.host.udev import settle
from vfio_hooks.knobs.base import Knob
from vfio_hooks.record import record
from vfio_hooks.wait import until

ABSENT = "absent"
_MADE = ", made for VMs"
_APPEARS = 10
"""Seconds until a module's device node must have appeared, and udev must have set it up."""


@record
class SharedFile(Knob):
    """A file in /dev/shm, or (`device`) the node of a kvmfr device; the value is its owner, group
    and permissions: "64055:993 0660".

    A file that does not exist is made, with `size` bytes: "64055:993 0660, made for VMs". The value
    "absent" removes such a file. A file that somebody else made in its place lacks our mark, so its
    value differs. A file that existed before keeps its content.
    """

    path: str
    size: int = 0
    device: bool = False
    kind = "shared-file"
    # A file is first made, and then given to its owner.
    atomic = False

    @property
    def key(self) -> str:
        return self.path

    def read(self, host: Host) -> str:
        found = self._look(host)
        if found is None:
            if self.device:
                raise Gone(f"{self.path}: there is no such device on this host")
            return ABSENT
        if found.other or found.is_device != self.device:
            raise HookError(
                f"{self.path}: {found.other or 'not what it should be'}: it is left alone",
                "find out what put it there, and remove it",
            )
        return shown(found.access, found.is_made)

    def ready(self, host: Host) -> None:
        if not self.device:
            return
        until(lambda: self._look(host) is not None, _APPEARS)
        settle(host, _APPEARS)

    def _write(self, host: WritableHost, value: str) -> None:
        found = self._look(host)
        try:
            if value == ABSENT:
                # A file that was made but not marked, because we were killed, is empty and root's.
                if found and (found.is_made or (found.access, found.size) == (OURS_ALONE, 0)):
                    host.remove(self.path)
            else:
                if found is None and value.endswith(_MADE):
                    host.make(self.path, self.size)
                host.give(self.path, Access.parse(value.removesuffix(_MADE)))
        except OSError as error:
            raise refused("make, change or remove", self.path, error) from None

    def _look(self, host: Host) -> Shared | None:
        try:
            return host.look(self.path)
        except OSError as error:
            raise refused("look at", self.path, error) from None


def shown(access: Access, is_made: bool) -> str:
    """The value of a file with this access, made by vfio-hooks or not."""
    return f"{access}{_MADE if is_made else ''}"
