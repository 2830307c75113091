"""The CPUs that a kernel thread may run on."""

from __future__ import annotations

import errno
import re

from vfio_hooks.errors import Gone, HookError, Immovable
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.host.cpu import online, possible
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.host.kthread import started
from vfio_hooks.knobs.cpu_set import CpuSetKnob, loses_offline
from vfio_hooks.knobs.file import read_file
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


@record
class ThreadAffinity(CpuSetKnob):
    """sched_setaffinity(2) of one thread; the value is the list of the CPUs that it may use. Linux
    6.1 forgets those that are offline; a thread that may use all others there has all CPUs.

    `start` is when it started, in clock ticks since boot: by the time of the undo, another thread
    may have its number.
    """

    pid: int
    start: int
    name: str
    kind = "thread"
    # It does when a CPU comes online and, since Linux 7, when an isolated partition comes or goes.
    is_reset = True
    # The kernel ends threads of its own all the time: psimon, workers of queues, jbd2 at umount.
    is_brief = True

    @property
    def key(self) -> str:
        return f"/proc/{self.pid} ({self.name})"

    def read(self, host: Host) -> str:
        if started(host, self.pid) != self.start:
            raise Gone(f"thread {self.pid} ({self.name}) has ended")
        found = re.search(
            r"^Cpus_allowed_list:\s*(\S*)", read_file(host, f"/proc/{self.pid}/status"), re.M
        )
        if not found:
            raise HookError(f"/proc/{self.pid}/status has no Cpus_allowed_list")
        cpus = parse_list(found[1])
        if loses_offline(host) and cpus >= online(host):
            cpus = possible(host)
        return format_list(cpus)

    def same(self, live: str, value: str, host: Host) -> bool:
        if super().same(live, value, host):
            return True
        # The live value may lack CPUs that were offline when it was set.
        return loses_offline(host) and parse_list(live) < parse_list(value)

    def own(self, live: str, host: Host) -> str:
        # From RCU's threads the kernel takes CPUs that go offline, and gives them back.
        return format_list(possible(host)) if parse_list(live) == online(host) else live

    def lost(self, value: str, host: Host) -> str:
        return format_list(parse_list(value) - online(host)) if loses_offline(host) else ""

    def resets(self, host: Host) -> Iterable[str]:
        # Since Linux 6.12, when a partition comes or goes, every thread that can be moved gets all
        # CPUs that are in no partition, even one that had only the CPUs of its node.
        return (host.maybe(f"{ROOT}/cpuset.cpus.effective") or format_list(possible(host)),)

    def _write(self, host: WritableHost, value: str) -> None:
        try:
            host.set_affinity(self.pid, self._runs_on(host, value))
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise Gone(f"thread {self.pid} ({self.name}) has ended") from None
            if error.errno == errno.EINVAL:
                raise Immovable(f"thread {self.name} is bound by the kernel, so it stays") from None
            raise refused(f"move to CPUs {value}", f"thread {self.name}", error) from None

    def took(self, live: str, value: str, host: Host) -> bool:
        if self.same(live, value, host):
            return True
        return self.same(live, format_list(self._runs_on(host, value)), host)

    def _runs_on(self, host: Host, value: str) -> CpuSet:
        """The CPUs that are asked for. If none of them is online, these are all that are, as for
        the kernel."""
        cpus = parse_list(value)
        return cpus if cpus & online(host) else possible(host)
