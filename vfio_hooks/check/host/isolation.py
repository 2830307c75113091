"""What else runs on the VM's CPUs, programs and interrupts, and what could keep them off."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import boot


@rule(
    "cgroup-no-cpusets",
    "host",
    "warning",
    why="Without CPU sets the host's programs cannot be kept off the VM's CPUs.",
    source="https://docs.kernel.org/admin-guide/cgroup-v2.html",
)
def no_cpusets(patient: Patient) -> Iterator[Seen]:
    controllers = patient.host.maybe("/sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "cpuset" not in controllers.split():
        yield Seen(
            f"cgroup v2 has no controller cpuset, only: {controllers}",
            "boot a kernel with CONFIG_CPUSETS, and without cgroup_disable=cpuset",
        )


@rule(
    "cgroup-v1",
    "host",
    "hint",
    why="In the old hierarchy systemd does not manage CPU sets, so programs that start later may "
    "run on the VM's CPUs. libvirt and systemd no longer test it.",
    source="https://libvirt.org/cgroups.html",
)
def old_cgroups(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if not host.exists("/sys/fs/cgroup/cgroup.controllers") and host.exists(
        "/sys/fs/cgroup/cpuset"
    ):
        asked = boot.values(host, "systemd.unified_cgroup_hierarchy")
        yield Seen(
            "the host's control groups are of version 1",
            f"remove systemd.unified_cgroup_hierarchy={asked[-1]} from the kernel's command line"
            if asked
            else "add to the kernel's command line: systemd.unified_cgroup_hierarchy=1",
        )


RULES = (no_cpusets, old_cgroups)
