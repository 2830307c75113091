"""What the kernel does when CPUs go offline or come back, as seen with Linux 6.1, 6.12 and 7.2.

Tasks in cpusets are given the CPUs that are online. Threads keep their CPUs, but for those that
are all gone; kcompactd is set to its node's whenever a CPU comes. A cpuset of v1 loses a CPU for
good, and one of v2 only for as long as it is away. A frequency policy without a CPU cannot be read.
"""

import errno

from tests.fakes import cpufreq, systemd, tasks
from vfio_hooks.host.cgroup import V1
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list

ONLINE = "/sys/devices/system/cpu/online"


def set_online(kernel: systemd.Files, cpus: str) -> None:
    """Take CPUs offline, or bring them back, so that these are online."""
    came = parse_list(cpus) - parse_list(kernel.files[ONLINE])
    kernel.files[ONLINE] = f"{cpus}\n"
    for name in list(kernel.files):
        if name.endswith("/cpuset.cpus.effective"):
            systemd.settle(kernel, name.removesuffix("/cpuset.cpus.effective"))
        elif name.startswith(V1) and name.endswith("/cpuset.cpus"):
            kept = parse_list(kernel.files[name]) & parse_list(cpus)
            kernel.files[name] = format_list(kept) + "\n"
    if f"{V1}/cpuset.cpus" in kernel.files:
        kernel.files[f"{V1}/cpuset.cpus"] = f"{cpus}\n"
    for name, text in kernel.files.items():
        if came and name.endswith("/stat") and "(kcompactd1)" in text:
            tasks.allow(kernel, name.split("/")[2], "4-7")


def allowed(kernel: systemd.Files, cpus: CpuSet, pid: int) -> CpuSet:
    """The CPUs that sched_setaffinity(2) sets. Raises OSError as it does."""
    running = parse_list(kernel.files[ONLINE])
    if not cpus & running:
        raise OSError(errno.EINVAL, "Invalid argument", f"/proc/{pid}")
    if kernel.unmoved and "cpuset" not in kernel.files[systemd.CONTROL].split():
        kernel.unmoved -= 1
        return cpus & running
    return cpus & running if kernel.trims else cpus


def check_policy(kernel: systemd.Files, name: str) -> None:
    """Raise OSError for a file of a frequency policy whose CPUs are all offline."""
    folder = name.rpartition("/")[0]
    if folder.startswith(f"{cpufreq.FOLDER}/policy"):
        cpus = ",".join(kernel.files.get(f"{folder}/related_cpus", "").split())
        online = kernel.files.get(ONLINE, cpus)
        if cpus and not parse_list(cpus) & parse_list(online):
            raise OSError(errno.EBUSY, "Device or resource busy", name)
