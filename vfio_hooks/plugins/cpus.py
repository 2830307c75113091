"""The VM's CPUs to itself: host programs and kernel threads leave them for as long as it runs.

The VM's CPUs are those that its vCPUs are pinned to in <cputune>; a VM without a <vcpupin> is an
error that says what to add, and so is one that leaves the host no CPU. The emulator's and the I/O
threads' CPUs stay shared with the host, where these threads do the host's part of the work.

On a host with systemd and cgroup v2, init.scope, system.slice, user.slice and every other unit
beside machine.slice get AllowedCPUs without the VM's CPUs, until the next boot at most; what was
set there before comes back when the VM stops. Several VMs add up: a CPU goes back to the host when
the last VM that has it stops. Unbound work queues, writeback and the kernel threads that can be
moved leave as well; those that belong to one CPU stay, and have nothing to do on a quiet one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from vfio_hooks.domain import Domain
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, kthread
from vfio_hooks.host.cgroup import host_units, layout
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.knobs import AllowedCpus, CpuMask, Knob, ThreadAffinity
from vfio_hooks.pinning import Pin, own_cpus
from vfio_hooks.sharing import Subtract
from vfio_hooks.steps import Step

WORKQUEUES = "/sys/devices/virtual/workqueue"


@dataclass(frozen=True)
class Options:
    """`also` names threads of the VM whose CPUs leave the host too: "emulatorpin", "iothreadpin".
    `kernel_threads` = false leaves work queues and kernel threads where they are."""

    also: tuple[Pin, ...] = ()
    kernel_threads: bool = True


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    cpus = own_cpus("cpus", domain, options.also, host)
    for knob in _programs(host):
        yield _without(knob, cpus, host)
    if options.kernel_threads:
        for knob in _work_queues(host):
            yield _without(knob, cpus, host)
        for knob in _threads(host, cpus):
            # A thread may end at any time, and one that stays is no reason not to start.
            yield _without(knob, cpus, host, required=False)


def _without(knob: Knob, cpus: CpuSet, host: Host, required: bool = True) -> Step:
    share = Subtract(format_list(cpus), (format_list(online(host)),))
    return Step("cpus", knob, share, required=required)


def _programs(host: Host) -> Iterator[Knob]:
    """Whatever holds the host's own processes."""
    found = layout(host)
    if found != "systemd":
        raise HookError(
            "cpus: this host has no systemd with cgroup v2",
            "take [cpus] out of vm.toml, or boot with systemd.unified_cgroup_hierarchy=1",
        )
    for unit in host_units(host):
        yield AllowedCpus(unit)


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
        # A thread that is on one CPU only is there for that CPU.
        if len(allowed) > 1 or not allowed <= cpus:
            yield knob
