"""How this host keeps its processes in control groups, and which of these are the host's own.

https://docs.kernel.org/admin-guide/cgroup-v2.html and libvirt's cgroups.html.
"""

from typing import Literal

from vfio_hooks.host import Host

ROOT = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/cpuset"
MACHINES = "machine.slice"
"""Where libvirt puts its guests with systemd; "machine" is the same without."""

Layout = Literal["systemd", "v2", "v1", "none"]


def layout(host: Host) -> Layout:
    """Who looks after CPU sets: systemd over cgroup v2, nobody over v2, or the v1 hierarchy."""
    if host.exists(f"{ROOT}/cgroup.controllers"):
        return "systemd" if host.exists("/run/systemd/system") else "v2"
    return "v1" if host.exists(f"{V1}/cpuset.cpus") else "none"


def host_units(host: Host) -> list[str]:
    """The top-level units of systemd that have the host's own processes, in name order."""
    return [
        name
        for name in host.names(ROOT)
        if name.endswith((".slice", ".scope")) and not _has_guests(host, name)
    ]


def _has_guests(host: Host, unit: str) -> bool:
    """Whether libvirt keeps guests there: a domain's <resource><partition> can name any slice."""
    return unit == MACHINES or any(
        name.startswith("machine-") and name.endswith(".scope")
        for name in host.names(f"{ROOT}/{unit}")
    )
