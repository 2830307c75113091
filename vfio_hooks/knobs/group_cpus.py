"""The CPUs of a cgroup v2 that systemd does not manage."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Gone
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.cpu import possible
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.knobs.cpu_set import CpuSetKnob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record


@record
class GroupCpus(CpuSetKnob):
    """cpuset.cpus of one group. The value is a CPU list, or "" if the group has no set of its own,
    as while the controller is off.

    https://docs.kernel.org/admin-guide/cgroup-v2.html, "cpuset"
    """

    group: str
    kind = "group-cpus"
    # A set that cannot be emptied gets all CPUs, so an undo that was cut off may show either.
    atomic = False

    @property
    def key(self) -> str:
        return f"{self.group}/cpuset.cpus"

    def read(self, host: Host) -> str:
        if not host.exists(self.group):
            raise Gone(f"{self.group}: this group no longer exists")
        return format_list(parse_list(host.maybe(self.key) or ""))

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.key: value}

    def _write(self, host: WritableHost, value: str) -> None:
        if value:
            write_file(host, self.key, value)
            return
        try:
            host.write(self.key, "\n")
        except OSError as error:
            if error.errno == errno.ENOENT:
                return  # The controller is off, so there is no set either.
            if error.errno != errno.ENOSPC:
                raise refused("empty", self.key, error) from None
            # The kernel does not let a set with tasks be emptied; all CPUs have the same effect.
            write_file(host, self.key, format_list(possible(host)))

    def took(self, live: str, value: str, host: Host) -> bool:
        is_all = not value and self.same(live, format_list(possible(host)), host)
        return is_all or self.same(live, value, host)
