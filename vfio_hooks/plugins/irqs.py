"""The host's interrupts are kept off the VM's CPUs, and the VM's own interrupts go there.

The VM's CPUs are those that its vCPUs are pinned to, with <vcpupin> or <vcpu cpuset=>. If a VM pins
none, there is an error that says what to add. Every interrupt that may go to one of these CPUs goes
to the other CPUs that it is allowed, or, if there are none, to the host's CPUs that are nearest in
NUMA terms. So does every interrupt that appears later. When the VM stops, all of them go back,
including those that appeared later, except to CPUs that another VM has. Interrupts that irqbalance
has placed in the meantime are left to it.

Interrupts that the kernel places itself ("managed", as those of NVMe queues) and those of a single
CPU stay. A queue of one CPU only has work of this CPU. But if a drive has fewer queues than the
host has CPUs, several CPUs share a queue, and its interrupts may come to a VM's CPU for work of
another CPU. The kernel parameter isolcpus=managed_irq,CPUS, with the VM's CPUs, keeps these off.

If irqbalance runs, it is told to keep off the VM's CPUs as well, and what it had been told before
is restored. The interrupts of the VM's own PCI devices appear when the guest's driver starts; while
the VM runs, a small service (vfio-hooks-vectors-UUID) moves them to the VM's CPUs, also those of
devices that are plugged in later. It keeps the host off the CPUs of vCPUs that are plugged in
later, and tells an irqbalance that is restarted, as when its package is upgraded.
"""

from collections.abc import Iterator
from functools import cache

from vfio_hooks.domain import Domain
from vfio_hooks.errors import Gone
from vfio_hooks.event import Event
from vfio_hooks.host import Host, irq
from vfio_hooks.host.cpu import Node, nearest_first, nodes, online, possible
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.knobs.irq import IrqAffinity, IrqDefault
from vfio_hooks.knobs.irqbalance import IrqBalance
from vfio_hooks.plugins.pinning import SAID, Pin, kept, own_cpus
from vfio_hooks.record import record
from vfio_hooks.services import argv, pidfile
from vfio_hooks.services.service import service
from vfio_hooks.sharing import Run, Subtract
from vfio_hooks.steps import Step

INSTEAD = dict.fromkeys(("cpus", "cores"), SAID)


@record
class Options:
    also: tuple[Pin, ...] = ()
    """Threads of the VM whose CPUs are kept free of interrupts as well: "emulatorpin",
    "iothreadpin"."""
    irqbalance: bool = True
    """With false, irqbalance is left alone. If it runs, it then moves interrupts to the VM's CPUs
    again."""
    vectors: bool = True
    """With false, there is no such service: the interrupts of the VM's own devices are left
    alone."""


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op == "prepare":
        cpus = own_cpus(domain, options.also, host)
        yield from _others(cpus, options, host)
    elif event.op == "started" and options.vectors and domain.pinned:
        yield _own(domain, kept(domain, online(host)) or domain.pinned)


def _others(cpus: CpuSet, options: Options, host: Host) -> Iterator[Step]:
    """Steps that keep the host's interrupts off the VM's CPUs. They are undone at `stopped`:
    between it and `release`, libvirt gives managed devices back, whose drivers then request
    interrupts, and these begin with the default mask."""
    away = _Away(cpus, online(host), possible(host), nodes(host))
    # Thousands of interrupts have a handful of masks.
    share_of = cache(away.share)
    socket = irq.balancer(host) if options.irqbalance else None
    if socket:
        # Before the interrupts, or its next round could take them back.
        share = away.share(online(host))
        yield Step("irqs", IrqBalance(socket), share, "stopped", required=False)
    default = IrqDefault()
    yield Step("irqs", default, away.share(parse_list(default.read(host))), "stopped")
    guests = irq.of_devices(host, irq.lent(host))
    for number in irq.numbers(host):
        knob = IrqAffinity(number)
        try:
            now = parse_list(knob.read(host))
        except Gone:
            continue
        if number not in guests:
            yield Step("irqs", knob, share_of(now), "stopped", required=False)


@record
class _Away:
    """How to keep a set of CPUs off certain others."""

    cpus: CpuSet
    online: CpuSet
    possible: CpuSet
    nodes: tuple[Node, ...]

    def share(self, now: CpuSet) -> Subtract:
        near = nearest_first(now & self.online, self.nodes)
        spare = (*map(format_list, near), format_list(self.online))
        # No interrupt can go to CPUs that are offline: the kernel refuses a mask of only these.
        offline = format_list(self.possible - self.online)
        return Subtract(format_list(self.cpus), tuple(dict.fromkeys(spare)), offline)


def _own(domain: Domain, cpus: CpuSet) -> Step:
    where = format_list(cpus)
    knob = service(
        f"vfio-hooks-vectors-{domain.uuid}",
        f"Interrupts of VM {domain.name}",
        argv("vfio_hooks.services.vectors", domain.uuid, pidfile(domain.name), where),
        f"moves the interrupts of the VM's own devices to CPUs {where}",
    )
    return Step("irqs", knob, Run(), until="stopped", required=False)
