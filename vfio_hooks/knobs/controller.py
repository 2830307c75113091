"""Whether a control group enables a controller for the groups below it."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Immovable
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import read_file
from vfio_hooks.knobs.tasks import give_offline_cpus
from vfio_hooks.record import record

ON, OFF = "on", "off"


@record
class Controller(Knob):
    """One controller, "cpuset", in a group's cgroup.subtree_control: "on" or "off".

    https://docs.kernel.org/admin-guide/cgroup-v2.html, "Enabling and Disabling"
    """

    group: str
    name: str
    kind = "controller"

    @property
    def key(self) -> str:
        return f"{self._file} {self.name}"

    @property
    def _file(self) -> str:
        return f"{self.group}/cgroup.subtree_control"

    def read(self, host: Host) -> str:
        return ON if self.name in read_file(host, self._file).split() else OFF

    def _write(self, host: WritableHost, value: str) -> None:
        try:
            host.write(self._file, f"{'+' if value == ON else '-'}{self.name}")
        except OSError as error:
            if value == OFF and error.errno == errno.EBUSY:
                # libvirt, for one, switches it on for the groups of its guests and leaves it so.
                raise Immovable(f"{self.name} stays on: groups below it use it") from None
            raise refused(f"switch {self.name} {value}", self._file, error) from None
        if value == OFF:
            give_offline_cpus(host)
