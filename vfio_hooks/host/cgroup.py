"""How this host keeps its processes in control groups, and which of these are the host's own.

https://docs.kernel.org/admin-guide/cgroup-v2.html and libvirt's cgroups.html.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    from vfio_hooks.host import Host

    Layout = Literal["systemd", "v2", "v1", "none"]

ROOT = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/cpuset"
MACHINES = ("machine.slice", "machine")
"""Where libvirt puts its guests, with systemd and without."""
OWN = "vfio-hooks"
"""The group that we make for the host's programs if systemd has none for them."""
_UNITS = (".slice", ".scope", ".service", ".socket", ".mount", ".swap")


def layout(host: Host) -> Layout:
    """How CPU sets are managed: by systemd with cgroup v2, by nobody with v2, in the v1 hierarchy,
    or "none" without cpusets."""
    if host.exists(f"{ROOT}/cgroup.controllers"):
        return "systemd" if host.exists("/run/systemd/system") else "v2"
    return "v1" if host.exists(f"{V1}/cpuset.cpus") else "none"


def counts_hugepages(host: Host) -> bool:
    """Whether a group's memory limit includes huge pages, which is a mount option since Linux
    6.6."""
    lines = host.lines("/proc/self/mountinfo")
    return any(" - cgroup2 " in line and "memory_hugetlb_accounting" in line for line in lines)


def host_units(host: Host) -> list[str]:
    """systemd's top-level units that have the host's own processes, sorted by name."""
    return [
        name
        for name in host.names(ROOT)
        if name.endswith((".slice", ".scope")) and not _has_guests(host, name)
    ]


def groups_beside_units(host: Host) -> list[str]:
    """The paths of the top-level groups that have programs in them and are not units of systemd.
    LXC makes such groups, and so do Docker and Kubernetes with the driver cgroupfs."""
    return [
        path
        for path in host_groups(host, ROOT)
        if not path.endswith(_UNITS)
        and path.isprintable()  # A journal cannot contain names that are not UTF-8.
        and "populated 1" in (host.maybe(f"{path}/cgroup.events") or "")
    ]


def host_groups(host: Host, top: str) -> list[str]:
    """The paths of the groups below `top` that have the host's programs, inner ones first: in the
    v1 hierarchy all groups, as each has CPUs of its own, in v2 only the outermost ones."""
    found = []
    for name in host.names(top):
        path = f"{top}/{name}"
        is_group = host.exists(f"{path}/cgroup.procs")
        if is_group and name != OWN and not _has_guests(host, name, top):
            found += [*(_below(host, path) if top == V1 else ()), path]
    return found


def _below(host: Host, group: str) -> list[str]:
    found = []
    for name in host.names(group):
        if host.exists(f"{group}/{name}/cgroup.procs"):
            found += [*_below(host, f"{group}/{name}"), f"{group}/{name}"]
    return found


def _has_guests(host: Host, group: str, top: str = ROOT) -> bool:
    """Whether libvirt keeps guests there: a domain's <resource><partition> can name any group."""
    return group in MACHINES or any(
        name.endswith(".libvirt-qemu") or (name.startswith("machine-") and name.endswith(".scope"))
        for name in host.names(f"{top}/{group}")
    )
