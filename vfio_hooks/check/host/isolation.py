"""Who else runs on the VM's CPUs: programs and interrupts, and what could keep them off."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import boot
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.host.irq import balancer
from vfio_hooks.pinning import kept


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
    source="irqbalance(1); guide: vfio-isolate",
)
def interrupts(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if guest is None or not guest.domain.pinned or "irqs" in patient.tables:
        return
    if patient.host.names("/proc/irq") and kept(guest.domain, patient.topology.online):
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
    source="https://docs.kernel.org/admin-guide/cgroup-v2.html, Cpuset; guide: vfio-isolate",
)
def programs(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if guest is None or not guest.domain.pinned or "cpus" in patient.tables:
        return
    if not patient.host.names(CPUS):
        return
    own = kept(guest.domain, patient.topology.online)
    left = own - parse_list(patient.host.maybe(f"{CPUS}/isolated") or "")
    if left:
        some = "" if left == own else f" {format_list(left)}"
        yield Seen(
            f"nothing keeps the host's programs off the VM's CPUs{some}", "in vm.toml: [cpus]"
        )


RULES = (no_cpusets, old_cgroups, interrupts, programs)
