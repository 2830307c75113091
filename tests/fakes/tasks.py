"""Which CPUs the kernel lets tasks use as their control groups' sets change, in cgroup v2.

As seen with Linux 6.1, 6.12 and 7.2. When the cpuset controller goes off, the kernel moves all
tasks in one go, and looks at the first alone: where the CPUs of its group, the oldest that has
any task, do not change, every task keeps those that it has. Linux 6.1 gives all of them all CPUs.
"""

from collections.abc import Iterator
from typing import Protocol

from vfio_hooks.host.cpulist import format_list, parse_list

ROOT = "/sys/fs/cgroup"
POSSIBLE = "/sys/devices/system/cpu/possible"
_ALLOWED = "Cpus_allowed_list:\t"


class Files(Protocol):
    """A kernel in memory."""

    files: dict[str, str]
    trims: bool
    """Whether this is Linux 6.1: of its new CPUs a thread gets those that are online."""


def confine(kernel: Files, group: str) -> None:
    """The CPUs of a group have changed, and with them those of the tasks in it and below."""
    for pid in _tasks(kernel, group):
        allow(kernel, pid, kernel.files[f"{group}/cpuset.cpus.effective"].strip())


def release(kernel: Files, effective: dict[str, str]) -> None:
    """The controller has gone off; these CPUs the top groups had, the oldest first."""
    everything = parse_list(kernel.files["/sys/devices/system/cpu/online"])
    first = next((group for group in effective if list(_tasks(kernel, group))), None)
    changes = first is not None and parse_list(effective[first]) != everything
    if changes or kernel.trims:
        for group in effective:
            for pid in _tasks(kernel, group):
                allow(kernel, pid, kernel.files[POSSIBLE].strip())


def allow(kernel: Files, pid: str, cpus: str) -> None:
    """Set the CPUs that a task may use."""
    name = f"/proc/{pid}/status"
    if name in kernel.files:
        before = kernel.files[name].partition(_ALLOWED)[0]
        kernel.files[name] = f"{before}{_ALLOWED}{format_list(parse_list(cpus))}\n"


def within(files: dict[str, str], online: str) -> dict[str, str]:
    """The files that tell of tasks in groups, with no CPU that is not online."""
    pids = [
        pid
        for name in files
        if name.startswith(ROOT) and name.endswith("/cgroup.procs")
        for pid in files[name].split()
    ]
    found = {}
    for name in (f"/proc/{pid}/status" for pid in pids):
        if name in files:
            before, _, cpus = files[name].partition(_ALLOWED)
            found[name] = before + _ALLOWED + format_list(parse_list(cpus) & parse_list(online))
    return found


def _tasks(kernel: Files, group: str) -> Iterator[str]:
    for name in list(kernel.files):
        if name.startswith(f"{group}/") and name.endswith("/cgroup.procs"):
            yield from kernel.files[name].split()
