"""Which CPUs tasks may use when no cpuset confines them any longer."""

from __future__ import annotations

from contextlib import suppress

from vfio_hooks.host import WritableHost, kthread
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.host.cpu import online, possible
from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.host.threads import allowed_by_number
from vfio_hooks.knobs.cpu_set import loses_offline
from vfio_hooks.wait import until

_SECONDS = 2
"""systemd switches the controller off after it has answered."""


def give_offline_cpus(host: WritableHost) -> None:
    """Let the host's tasks use CPUs that come online later, if no cpuset does that any more.

    A cpuset gives its tasks the CPUs that are online, and follows those that come and go. Since
    Linux 6.2, tasks keep just the CPUs that are online when the controller is switched off.
    """
    running, every = online(host), possible(host)
    if running == every or loses_offline(host) or _is_needed(host, every):
        return

    def done() -> bool:
        # The controller shows as off before the kernel has moved the tasks out of their cpusets. A
        # task that is still in one cannot get a CPU that is offline, so we look twice.
        return not _is_on(host) and any(not _widen(host, running, every) for _ in range(2))

    until(done, _SECONDS)


def _widen(host: WritableHost, running: CpuSet, every: CpuSet) -> bool:
    """Give the CPUs `every` to programs that may use just the online ones, `running`. Returns
    whether there were any."""
    found = False
    for pid in map(int, filter(str.isdecimal, host.names("/proc"))):
        for tid in map(int, host.names(f"/proc/{pid}/task")):
            is_left = allowed_by_number(host, pid, tid) == running
            if is_left and not kthread.is_kernels(host, pid):
                with suppress(OSError):  # It may end at any time.
                    host.set_affinity(tid, every)
                    found = True
    return found


def _is_on(host: WritableHost) -> bool:
    return "cpuset" in (host.maybe(f"{ROOT}/cgroup.subtree_control") or "").split()


def _is_needed(host: WritableHost, every: CpuSet) -> bool:
    """Whether a group has a set without some of the CPUs, or enables the controller below it."""
    for name in host.names(ROOT):
        own = parse_list(host.maybe(f"{ROOT}/{name}/cpuset.cpus") or "")
        handed_on = (host.maybe(f"{ROOT}/{name}/cgroup.subtree_control") or "").split()
        if (own and not own >= every) or "cpuset" in handed_on:
            return True
    return False
