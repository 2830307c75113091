"""The CPUs of programs that are in no control group but the top one, which has all CPUs."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.host.cgroup import OWN
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.host.kthread import is_kernels
from vfio_hooks.knobs.cpu_set import CpuSetKnob
from vfio_hooks.knobs.file import read_file, write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until

SECONDS = 10
"""For how many seconds programs that keep starting others are moved as well."""


@record
class HostTasks(CpuSetKnob):
    """A group "vfio-hooks" that takes these programs in, below `top`, the folder of cpusets. The
    value is its CPU list, or "" while there is no such group and the programs are where they were.

    In the v1 hierarchy single threads are moved, as a process may have them in several groups.
    Kernel threads stay; the kernel lets only a few of them be moved.
    https://docs.kernel.org/admin-guide/cgroup-v1/cpusets.html, .../cgroup-v2.html
    """

    top: str
    kind = "host-tasks"
    # The group is made, filled and emptied one task after the other.
    atomic = False

    @property
    def key(self) -> str:
        return f"{self._group}/cpuset.cpus"

    @property
    def _group(self) -> str:
        return f"{self.top}/{OWN}"

    def read(self, host: Host) -> str:
        if not host.exists(f"{self.top}/cgroup.procs"):
            raise Gone(f"{self.top}: there are no longer any control groups")
        if not host.exists(self._group):
            return ""
        # If we were killed before it was filled, the group has no set yet, and limits nothing.
        return format_list(parse_list(host.maybe(self.key) or "") or online(host))

    def _write(self, host: WritableHost, value: str) -> None:
        if value:
            self._take_in(host, value)
        elif host.exists(self._group):
            self._let_go(host)

    def _take_in(self, host: WritableHost, cpus: str) -> None:
        if not host.exists(self._group):
            try:
                host.make_folder(self._group)
            except OSError as error:
                raise refused("make a control group", self._group, error) from None
        if (nodes := host.maybe(f"{self.top}/cpuset.mems")) is not None:
            # Only v1 has this file at the top. Its groups accept tasks only once they have memory.
            write_file(host, f"{self._group}/cpuset.mems", nodes)
        write_file(host, self.key, cpus)
        self._move(host, self.top, self._group)

    def _let_go(self, host: WritableHost) -> None:
        self._move(host, self._group, self.top)
        try:
            host.remove_folder(self._group)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise refused("remove", self._group, error) from None
            # Somebody has made groups in it, or put a task there that stays. These at least get all
            # CPUs again.
            write_file(host, self.key, format_list(online(host)))
            raise HookError(
                f"{self._group}: cannot be removed: it has groups or tasks that are not ours",
                f"end them, and then: rmdir {self._group}",
            ) from None

    def _move(self, host: WritableHost, source: str, target: str) -> None:
        """Move all programs, and those that they start meanwhile."""
        name = "tasks" if host.exists(f"{self.top}/tasks") else "cgroup.procs"
        staying: dict[str, str] = {}

        def empty() -> bool:
            tasks = read_file(host, f"{source}/{name}").split()
            left = [task for task in tasks if task not in staying]
            left = [task for task in left if not is_kernels(host, int(task))]
            for task in left:
                try:
                    host.write(f"{target}/{name}", task)
                except OSError as error:
                    if error.errno != errno.ESRCH:
                        staying[task] = str(refused("move", f"task {task}", error))
            return not left

        until(empty, SECONDS)
        for told in staying.values():
            host.tell(f"{source}: {told}")
