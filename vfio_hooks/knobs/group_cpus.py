"""The CPUs of a cgroup v2 that no systemd looks after."""

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
    """cpuset.cpus of one group; the value is a CPU list, and "" where it has none of its own, as
    is the case as long as the controller is off.

    https://docs.kernel.org/admin-guide/cgroup-v2.html, "cpuset"
    """

    group: str
    kind = "group-cpus"
    # What cannot be emptied is set to all CPUs, so a cut off undo may show either.
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
            # The kernel lets no set with tasks in it be emptied; one with all CPUs is the same.
            write_file(host, self.key, format_list(possible(host)))

    def took(self, live: str, value: str, host: Host) -> bool:
        is_all = not value and self.same(live, format_list(possible(host)), host)
        return is_all or self.same(live, value, host)
