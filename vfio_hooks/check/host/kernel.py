"""The kernel's own housekeeping and protections, by its parameters and sysctls."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import boot

_PARAMETERS = "https://docs.kernel.org/admin-guide/kernel-parameters.html"
_SYSCTL = "https://docs.kernel.org/admin-guide/sysctl/kernel.html"
_STATIC = ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity")


@rule(
    "mitigations-off",
    "host",
    "warning",
    why="mitigations=off makes system calls a little cheaper, and lets a program read what other "
    "programs, and a guest what the host, has in the caches.",
    source="https://docs.kernel.org/admin-guide/hw-vuln/index.html; VFIO tuning guide, CPU mode, "
    "keeps them on",
)
def mitigations(patient: Patient) -> Iterator[Seen]:
    if "off" in boot.values(patient.host, "mitigations")[-1:]:
        yield Seen(
            "the mitigations of the processor's vulnerabilities are off",
            "unless neither host nor guest runs foreign code, not even a browser's, take away: "
            "mitigations=off",
        )


@rule(
    "cpus-isolated-at-boot",
    "host",
    "hint",
    why="These parameters take CPUs away from the host also while no VM runs. The hook takes them "
    "for as long as the VM runs.",
    source=_PARAMETERS,
)
def static(patient: Patient) -> Iterator[Seen]:
    given = [f"{name}={value}" for name, value in boot.parameters(patient.host) if name in _STATIC]
    if given:
        yield Seen(
            f"CPUs are set aside on the kernel's command line: {' '.join(given)}",
            "if the host could use them while the VM is off, take that away, and in vm.toml: "
            "[cpus] and [irqs]",
        )


@rule(
    "nmi-watchdog-on",
    "host",
    "hint",
    why="The watchdog takes a performance counter of each CPU and interrupts it. Off, a host that "
    "hangs is not noticed.",
    source=f"{_SYSCTL}, nmi_watchdog",
)
def watchdog(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if guest is None or not guest.domain.pinned or "memory" in patient.tables:
        return
    if patient.host.maybe("/proc/sys/kernel/nmi_watchdog") == "1":
        yield Seen(
            "the NMI watchdog runs on the VM's CPUs",
            "in vm.toml: [memory] nmi_watchdog = 0",
        )


@rule(
    "split-locks-slowed",
    "host",
    "hint",
    why="A program of the guest that locks memory across two cache lines, as some games do, is "
    "made to wait 10 ms each time.",
    source=f"{_SYSCTL}, split_lock_mitigate",
    sure="possible",
)
def split_locks(patient: Patient) -> Iterator[Seen]:
    if patient.host.maybe("/proc/sys/kernel/split_lock_mitigate") == "1":
        yield Seen(
            "the kernel slows split locks down",
            "if the kernel log has 'split lock' while the VM runs, in vm.toml: [[write]] "
            'path = "kernel.split_lock_mitigate", value = 0',
        )


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
    why="In the old hierarchy systemd does not look after CPU sets, so programs that start later "
    "may come back to the VM's CPUs, and libvirt and systemd no longer test it.",
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
            f"take systemd.unified_cgroup_hierarchy={asked[-1]} away from the kernel's command line"
            if asked
            else "add to the kernel's command line: systemd.unified_cgroup_hierarchy=1",
        )


@rule(
    "irqs-on-vm-cpus",
    "host",
    "hint",
    why="Each of the host's interrupts stops the guest on that CPU. irqbalance spreads them over "
    "all CPUs, again and again, and without it they stay where the kernel put them.",
    source="irqbalance(1); VFIO tuning guide, vfio-isolate",
)
def interrupts(patient: Patient) -> Iterator[Seen]:
    from vfio_hooks.host.irq import balancer

    guest = patient.guest
    if guest is None or not guest.domain.pinned or "irqs" in patient.tables:
        return
    if patient.host.names("/proc/irq"):
        runs = balancer(patient.host) is not None
        yield Seen(
            f"{'irqbalance moves' if runs else 'nothing keeps'} the host's interrupts "
            f"{'onto' if runs else 'off'} the VM's CPUs",
            "in vm.toml: [irqs]",
        )


@rule(
    "programs-on-vm-cpus",
    "host",
    "hint",
    why="While a program of the host runs on a vCPU's CPU, the guest stands still there.",
    source="https://docs.kernel.org/admin-guide/cgroup-v2.html, Cpuset; VFIO tuning guide, "
    "vfio-isolate",
)
def programs(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if guest is None or not guest.domain.pinned or "cpus" in patient.tables:
        return
    static = boot.values(patient.host, "isolcpus")
    if not static and patient.host.names("/sys/devices/system/cpu"):
        yield Seen("nothing keeps the host's programs off the VM's CPUs", "in vm.toml: [cpus]")


RULES = (
    mitigations,
    static,
    watchdog,
    split_locks,
    no_cpusets,
    old_cgroups,
    interrupts,
    programs,
)
