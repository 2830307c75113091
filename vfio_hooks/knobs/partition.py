"""Whether a control group's CPUs are a partition of their own for the kernel's scheduler."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import read_file, write_file
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from vfio_hooks.host import Host, WritableHost

MEMBER = "member"


@record
class Partition(Knob):
    """cpuset.cpus.partition of one group: "member", "root" or "isolated".

    The kernel accepts every write. Only a read shows that it made no partition, and why: "root
    invalid (Cpu list in cpuset.cpus not exclusive)".
    https://docs.kernel.org/admin-guide/cgroup-v2.html, "cpuset"
    """

    group: str
    kind = "partition"

    @property
    def key(self) -> str:
        return f"{self.group}/cpuset.cpus.partition"

    def read(self, host: Host) -> str:
        return (read_file(host, self.key).split() or [MEMBER])[0]

    def resets(self, host: Host) -> Iterable[str]:
        # The group of a vCPU is made anew when the vCPU is unplugged and plugged in again.
        return (MEMBER,)

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.key: value}

    def _write(self, host: WritableHost, value: str) -> None:
        write_file(host, self.key, value)
        shown = read_file(host, self.key)
        if shown != value:
            raise HookError(
                f"{self.group}: the kernel does not make it a partition: {shown}",
                "no other group may have its CPUs; or remove partition from [cpus]",
            )
