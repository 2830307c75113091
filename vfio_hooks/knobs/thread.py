"""The CPUs that a kernel thread may run on."""

import errno
import re
from typing import ClassVar

from vfio_hooks.errors import Gone, HookError, Immovable
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.cpu import online, possible
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.host.kthread import started
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import read_file
from vfio_hooks.record import record


@record
class ThreadAffinity(Knob):
    """sched_setaffinity(2) of one thread; the value is the list of the online CPUs it may use:
    what a thread may do on the others is lost on Linux 6.1 with any change.

    `start` is when it started, in clock ticks since boot: its number alone may be another
    thread's by the time of the undo.
    """

    pid: int
    start: int
    name: str
    kind: ClassVar[str] = "thread"

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
        return format_list(parse_list(found[1]) & online(host))

    def write(self, host: WritableHost, value: str) -> None:
        cpus = parse_list(value)
        if cpus == online(host):
            cpus = possible(host)
        try:
            host.set_affinity(self.pid, cpus)
        except OSError as error:
            if error.errno == errno.ESRCH:
                raise Gone(f"thread {self.pid} ({self.name}) has ended") from None
            if error.errno == errno.EINVAL:
                raise Immovable(f"thread {self.name} is bound by the kernel: it stays") from None
            raise refused(f"move to CPUs {value}", f"thread {self.name}", error) from None
        if (now := self.read(host)) != value:
            raise HookError(f"thread {self.name}: CPUs {value} were asked for, it shows {now}")
