"""The VM has its CPUs to itself: host programs and kernel threads leave them while it runs.

The VM's CPUs are those that its vCPUs are pinned to, with <vcpupin> or <vcpu cpuset=>. If a VM pins
none, or leaves the host no CPU, there is an error that says what to change. The CPUs of the
emulator and the I/O threads stay shared with the host, where these threads do the host's part of
the work.

If vCPUs can be plugged in while the VM runs (<vcpu current=>), a small service
(vfio-hooks-vcpus-UUID) sees to it that the host leaves their CPUs as well, even if they are pinned
only then (virsh vcpupin --live).

On a host with systemd and cgroup v2, init.scope, system.slice, user.slice and every other unit
beside machine.slice get AllowedCPUs without the VM's CPUs, until the next boot at most. When the VM
stops, their previous setting is restored. Several VMs add up: a CPU goes back to the host when the
last VM that has it stops. Unbound work queues, writeback and the kernel threads that can be moved
leave as well. Kernel threads that belong to one CPU stay, and have nothing to do on a quiet one. A
CPU that comes online in the meantime belongs to the host. Before Linux 6.2 the kernel forgets which
CPUs a program had chosen, as with taskset, whenever the set around it changes. It also takes CPUs
that are offline when the VM stops from its own threads: they get these with the first event after
the CPUs are back, or by `vfio-hooks undo`.
Containers in groups that systemd does not manage, as LXC makes them, get a smaller CPU set if they
run when the VM starts.

Without systemd, and with cgroup v1, the CPU sets of the host's own groups are made smaller, and the
programs that are in none of them are in a group "vfio-hooks" while the VM runs. Groups that are
made in the meantime are not seen.
"""

from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, kthread
from vfio_hooks.host.cgroup import ROOT, V1, groups_beside_units, host_groups, host_units, layout
from vfio_hooks.host.cpu import online, possible
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.knobs import Knob
from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.controller import ON, Controller
from vfio_hooks.knobs.file import CpuMask
from vfio_hooks.knobs.group_cpus import GroupCpus
from vfio_hooks.knobs.host_tasks import HostTasks
from vfio_hooks.knobs.thread import ThreadAffinity
from vfio_hooks.plugins.cpus import partition
from vfio_hooks.plugins.pinning import SAID, Pin, kept, own_cpus
from vfio_hooks.record import record
from vfio_hooks.sharing import Override, Run, Subtract
from vfio_hooks.steps import Step

WORKQUEUES = "/sys/devices/virtual/workqueue"

INSTEAD = dict.fromkeys(("cpus", "cores"), SAID)


@record
class Options:
    also: tuple[Pin, ...] = ()
    """Threads of the VM whose CPUs the host leaves as well: "emulatorpin", "iothreadpin"."""
    kernel_threads: bool = True
    """With false, work queues and kernel threads stay where they are."""
    partition: Literal["root", "isolated"] | None = None
    """Puts the CPUs of each vCPU into a partition of their own once the VM runs: "root", or
    "isolated", in which the scheduler does not balance the load. This needs Linux 6.7, cgroup v2,
    and a CPU of its own for each vCPU."""


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op == "started":
        if options.partition:
            yield from partition.steps(options.partition, domain, host)
        if domain.idle_vcpus and domain.pinned:
            yield _plugged(domain, kept(domain, online(host)) or domain.pinned)
    if event.op != "prepare":
        return
    if options.partition:
        partition.check(domain, host)
    cpus = own_cpus(domain, options.also, host)
    yield from _programs(cpus, host)
    if options.kernel_threads:
        for knob in _work_queues(host):
            yield _without(knob, cpus, host)
        for knob in _threads(host, cpus):
            # A thread may end at any time, and one that stays is no reason to refuse the start.
            yield _without(knob, cpus, host, required=False)


def _plugged(domain: Domain, cpus: CpuSet) -> Step:
    from vfio_hooks.services import argv, pidfile
    from vfio_hooks.services.service import service

    words = (domain.uuid, pidfile(domain.name), format_list(cpus))
    knob = service(
        f"vfio-hooks-vcpus-{domain.uuid}",
        f"CPUs of vCPUs that VM {domain.name} gets later",
        argv("vfio_hooks.services.vcpus", *words),
        "keeps the host off the CPUs of vCPUs that are plugged in later",
    )
    return Step("cpus", knob, Run(), until="stopped", required=False)


def _without(knob: Knob, cpus: CpuSet, host: Host, required: bool = True) -> Step:
    """The step that takes the VM's CPUs out of a set. A set of all CPUs keeps those that are
    offline, so that the host has them when they come online."""
    every = format_list(possible(host))
    return Step("cpus", knob, _taken(cpus, host, every), required=required)


def _taken(cpus: CpuSet, host: Host, *spare: str) -> Subtract:
    return Subtract(format_list(cpus), spare, format_list(possible(host) - online(host)))


def _programs(cpus: CpuSet, host: Host) -> Iterator[Step]:
    """Steps for whatever holds the host's own processes: systemd's units, or control groups."""
    match layout(host):
        case "systemd":
            for unit in host_units(host):
                yield _without(AllowedCpus(unit), cpus, host)
            for group in groups_beside_units(host):
                # A container may end at any time.
                yield _without(GroupCpus(group), cpus, host, required=False)
        case "v2":
            yield Step("cpus", Controller(ROOT, "cpuset"), Override(ON))
            for group in host_groups(host, ROOT):
                yield _without(GroupCpus(group), cpus, host)
            yield _without(HostTasks(ROOT), cpus, host)
        case "v1":
            yield from _cpusets(cpus, host)
        case "none":
            raise HookError(
                "this host has no cpusets: the control groups v2 or v1 are not mounted",
                "mount them, or remove [cpus] from vm.toml",
            )


def _cpusets(cpus: CpuSet, host: Host) -> Iterator[Step]:
    """Steps for the v1 hierarchy. A group there cannot have fewer CPUs than the groups inside it,
    so the inner ones come first."""
    reserved: CpuSet = frozenset()
    for group in host_groups(host, V1):
        own = host.maybe(f"{group}/cpuset.cpus")
        if not own:
            continue  # No process can be in it yet.
        outer = group.rpartition("/")[0]
        around = host.maybe(f"{outer}/cpuset.cpus") or ""
        if outer != V1 and not parse_list(around) - cpus:
            raise HookError(
                f"{group} would have to leave CPUs {own} together with the group around it, "
                "which cgroup v1 cannot do",
                f"give {outer} a CPU that the VM does not have",
            )
        share = _taken(cpus, host, around, format_list(online(host)))
        yield Step("cpus", CpuMask(f"{group}/cpuset.cpus"), share)
        if outer == V1 and host.maybe(f"{group}/cpuset.cpu_exclusive") == "1":
            reserved |= parse_list(own)
    share = _taken(cpus | reserved, host, format_list(online(host)))
    yield Step("cpus", HostTasks(V1), share)


def _work_queues(host: Host) -> Iterator[Knob]:
    # The first is that of all unbound queues; those below it have a smaller set of their own.
    for path in (WORKQUEUES, *(f"{WORKQUEUES}/{name}" for name in host.names(WORKQUEUES))):
        if host.exists(f"{path}/cpumask"):
            yield CpuMask(f"{path}/cpumask", mask=True)


def _threads(host: Host, cpus: CpuSet) -> Iterator[Knob]:
    for thread in kthread.movable(host):
        knob = ThreadAffinity(thread.pid, thread.start, thread.name)
        try:
            allowed = parse_list(knob.read(host))
        except Gone:
            continue
        # A thread that may run on one CPU only belongs to that CPU.
        if len(allowed) > 1 or not allowed <= cpus:
            yield knob
