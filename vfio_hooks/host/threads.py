"""The threads of a host and its interrupts: where they may run, and where they did.

https://docs.kernel.org/filesystems/proc.html, Documentation/scheduler/sched-stats.rst
"""

from __future__ import annotations

import re

from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.host.kthread import FLAGS, PF_KTHREAD, stat
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_CPU = 36  # Its place in /proc/PID/stat, as those in kthread.py
_TICK = 10_000_000  # ns: USER_HZ is 100


@record
class Thread:
    """A thread at one moment: the CPU that it is on or was last on, and how long it has run in all
    (ns). (pid, tid, name) identify it."""

    pid: int
    tid: int
    name: str
    is_kernels: bool
    cpu: int
    runtime: int


def threads(host: Host, pid: int | None = None) -> dict[int, Thread]:
    """The threads of one process or of all, by number, without those that end meanwhile."""
    found = {}
    for process in [str(pid)] if pid else filter(str.isdecimal, host.names("/proc")):
        for tid in host.names(f"/proc/{process}/task"):
            thread = _thread(host, int(process), int(tid))
            if thread:
                found[thread.tid] = thread
    return found


def allowed(host: Host, thread: Thread) -> CpuSet:
    """The CPUs that a thread may use, by its own affinity and its cgroup's."""
    return allowed_by_number(host, thread.pid, thread.tid)


def allowed_by_number(host: Host, pid: int, tid: int) -> CpuSet:
    """The same for a thread by its numbers; none if it has ended."""
    status = host.maybe(f"/proc/{pid}/task/{tid}/status") or ""
    line = re.search(r"^Cpus_allowed_list:\s*(\S+)", status, re.MULTILINE)
    return parse_list(line[1]) if line else frozenset()


def memory_by_node(host: Host, pid: int) -> dict[int, int]:
    """How much memory a process has on each NUMA node, in KiB."""
    found: dict[int, int] = {}
    for line in host.lines(f"/proc/{pid}/numa_maps"):
        size = re.search(r"\bkernelpagesize_kB=(\d+)", line)
        for node, pages in re.findall(r"\bN(\d+)=(\d+)", line):
            amount = int(pages) * (int(size[1]) if size else 4)
            found[int(node)] = found.get(int(node), 0) + amount
    return found


def busy(host: Host, cpus: CpuSet) -> dict[int, int]:
    """For how long each of these CPUs has run threads, in ns since some moment, exact to a few
    ticks of 10 ms. Empty if the host does not show it.

    It is the time that remains without idle time and interrupts, because the kernel measures idle
    time exactly, but only samples user and system time.
    """
    uptime = (host.maybe("/proc/uptime") or "").split()
    found = {}
    for line in host.lines("/proc/stat"):
        name, *counts = line.split()
        if uptime and re.fullmatch(r"cpu\d+", name) and int(name[3:]) in cpus:
            # Idle or waiting for a disk, in interrupts hard and soft, stolen: proc_stat(5).
            rest = sum(map(int, counts[3:8])) * _TICK
            found[int(name[3:])] = round(float(uptime[0]) * 1e9) - rest
    return found


def interrupts(host: Host, cpus: CpuSet) -> dict[str, int]:
    """How many interrupts of devices these CPUs have had, by "24 xhci_hcd". The CPUs' own, such
    as timers and calls from other CPUs, have no number and are not in it."""
    columns, lines = _interrupts(host)
    wanted = [place for place, cpu in enumerate(columns) if cpu in cpus]
    found = {}
    for number, fields in lines:
        # After the counts: the chip, the line of it, then what the drivers call themselves.
        name = " ".join(fields[len(columns) + 2 :]) or fields[-1]
        found[f"{number} {name}"] = sum(int(fields[place]) for place in wanted)
    return found


def interrupts_by_cpu(host: Host) -> dict[int, int]:
    """How many interrupts of devices each CPU has had since the boot."""
    columns, lines = _interrupts(host)
    sums = [0] * len(columns)
    for _, fields in lines:
        sums = [known + int(more) for known, more in zip(sums, fields, strict=False)]
    return dict(zip(columns, sums, strict=True))


def _interrupts(host: Host) -> tuple[list[int], list[tuple[str, list[str]]]]:
    """The CPUs of the columns of /proc/interrupts, and the numbered lines that are whole."""
    lines = host.lines("/proc/interrupts")
    names = [name.removeprefix("CPU") for name in lines[0].split()] if lines else []
    if not all(map(str.isdecimal, names)):
        return [], []
    found = []
    for line in lines[1:]:
        number, _, rest = line.strip().partition(":")
        fields = rest.split()
        counts = fields[: len(names)]
        if number.isdecimal() and len(fields) > len(names) and all(map(str.isdecimal, counts)):
            found.append((number, fields))
    return [int(name) for name in names], found


def _thread(host: Host, pid: int, tid: int) -> Thread | None:
    found = stat(host, pid, tid)
    if found is None or len(found[1]) <= _CPU:
        return None
    name, fields = found
    runtime = (host.maybe(f"/proc/{pid}/task/{tid}/schedstat") or "0").split()[0]
    return Thread(
        pid=pid,
        tid=tid,
        name=name,
        is_kernels=bool(int(fields[FLAGS]) & PF_KTHREAD),
        cpu=int(fields[_CPU]),
        runtime=int(runtime),
    )
