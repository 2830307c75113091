"""Values that are sets of CPUs, on a host whose CPUs come and go."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.boot import release
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.knobs.base import Knob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_EVERY = "0-65535"


def running(host: Host) -> CpuSet:
    """The CPUs that are online; every number if the host does not show its CPUs."""
    try:
        return online(host)
    except HookError:
        return parse_list(_EVERY)


def loses_offline(host: Host) -> bool:
    """Whether the kernel takes CPUs that are offline out of every set that a thread is given."""
    return release(host) < (6, 2)


class CpuSetKnob(Knob):
    """A knob whose value is a CPU list "0-3,8", or "" if there is no set.

    CPUs that are offline are written, but do not count when two values are compared: cgroup v1, and
    the affinity of threads before Linux 6.2, forget them, and everything else keeps them.
    """

    def same(self, live: str, value: str, host: Host) -> bool:
        if live == value:
            return True
        cpus = running(host)
        return bool(live and value) and parse_list(live) & cpus == parse_list(value) & cpus
