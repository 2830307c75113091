"""Kernel threads that may be moved from one CPU to another."""

from __future__ import annotations

from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

# include/linux/sched.h
PF_KTHREAD = 0x00200000
PF_NO_SETAFFINITY = 0x04000000
_KTHREADD = 2
FLAGS, START = 6, 19
"""Positions in /proc/PID/stat after the name: proc_pid_stat(5) counts from 1, with the name 2."""


@record
class KernelThread:
    """A thread by number and start time, in clock ticks since boot. No other thread has both."""

    pid: int
    start: int
    name: str


def movable(host: Host) -> Iterator[KernelThread]:
    """The kernel threads whose CPUs may be chosen, in the order of their numbers.

    Threads of interrupts are left out: the kernel sets them to the CPUs of their interrupt, again
    and again. So is kthreadd: since Linux 6.2, every thread that it starts keeps its CPUs for good.
    """
    for pid in sorted(map(int, filter(str.isdecimal, host.names("/proc")))):
        fields = stat(host, pid)
        if fields is None:
            continue
        name, rest = fields
        flags = int(rest[FLAGS])
        stays = flags & PF_NO_SETAFFINITY or pid == _KTHREADD or name.startswith("irq/")
        if flags & PF_KTHREAD and not stays:
            yield KernelThread(pid, int(rest[START]), name)


def is_kernels(host: Host, pid: int) -> bool:
    """Whether a thread is one of the kernel's own."""
    fields = stat(host, pid)
    return fields is not None and bool(int(fields[1][FLAGS]) & PF_KTHREAD)


def started(host: Host, pid: int) -> int | None:
    """When the process with that number started; None if there is none."""
    fields = stat(host, pid)
    return None if fields is None else int(fields[1][START])


def stat(host: Host, pid: int, tid: int | None = None) -> tuple[str, list[str]] | None:
    """The name in /proc/PID/stat, or in that of a thread, and the fields from the third on; None if
    there is no such process."""
    text = host.maybe(f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat")
    if not text:
        return None
    # A name may contain blanks and brackets.
    before, _, after = text.rpartition(")")
    return before.partition("(")[2], after.split()
