"""What ran on some CPUs during a window, and which interrupts came to them."""

import os
from collections import Counter
from dataclasses import dataclass, field

from vfio_hooks.host import Host
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.host.threads import Thread, busy, interrupts, threads
from vfio_hooks.record import replace
from vfio_hooks.wait import until

_UNSURE, _SHARE = 50_000_000, 0.05
"""How much of a CPU's time may be unexplained (ns, and a part of the window): ticks of 10 ms at
both ends, a thread's own clock, which is a tick late, and the ways into idle and out of it."""


@dataclass
class Watch:
    """What was seen during the window: where each of QEMU's threads ran, how long other threads ran
    on the VM's CPUs (ns), how long these CPUs were busy without a thread that was seen (ns), and
    the interrupts that they had."""

    qemu: int
    cpus: CpuSet
    ran_on: dict[int, set[int]] = field(default_factory=dict)
    foreign: dict[Thread, int] = field(default_factory=dict)
    unseen: int = 0
    interrupts: dict[str, int] = field(default_factory=dict)


def watch(host: Host, qemu: int, cpus: CpuSet, seconds: float) -> Watch:
    seen = Watch(qemu, cpus)
    before = interrupts(host, cpus)
    # Clocks are read before threads, here and below, because reading all threads takes a while.
    first = busy(host, cpus)
    now, last, known = first, threads(host), Counter[int]()

    def look() -> bool:
        nonlocal now
        now = busy(host, cpus)
        found = threads(host)
        for tid, thread in found.items():
            # A new thread began after the last look, so all of its time counts.
            ran = thread.runtime - (last[tid].runtime if tid in last else 0)
            if ran > 0:
                _note(seen, thread, ran)
                known[thread.cpu] += ran
        # A thread that was seen once stays: a list may leave one out while other threads end.
        last.update(found)
        return False

    until(look, seconds)
    for cpu in first.keys() & now.keys():
        unseen = now[cpu] - first[cpu] - known[cpu]
        seen.unseen += unseen if unseen > _UNSURE + _SHARE * seconds * 1e9 else 0
    seen.interrupts = {
        name: count - before.get(name, 0)
        for name, count in interrupts(host, cpus).items()
        if count > before.get(name, 0)
    }
    return seen


def _note(seen: Watch, thread: Thread, ran: int) -> None:
    if thread.pid == seen.qemu:
        seen.ran_on.setdefault(thread.tid, set()).add(thread.cpu)
    elif thread.cpu in seen.cpus and thread.pid != os.getpid():
        key = replace(thread, runtime=0)
        seen.foreign[key] = seen.foreign.get(key, 0) + ran
