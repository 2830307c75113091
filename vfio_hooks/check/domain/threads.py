"""Where QEMU's own threads run: those of the emulator, and I/O threads."""

from collections.abc import Iterator

from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.devices import iothread_ids
from vfio_hooks.domain.editing import put
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.init.wish import taken


@guest_rule(
    "pins-emulator",
    "warning",
    why="QEMU's own threads do the guest's input and output. Where they may use the vCPUs' CPUs, "
    "the guest stands still while they work.",
    source="guide: Emulator Pin",
)
def emulator(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain = guest.domain
    if not domain.pinned:
        return
    if domain.emulator_pin is None:
        text = "the emulator's threads are not pinned, and run on the vCPUs' CPUs too"
    elif shared := domain.emulator_pin & domain.pinned:
        text = f"the emulator's threads and vCPUs are both pinned to CPU {format_list(shared)}"
    else:
        return
    cpus = format_list(_free(patient, guest))
    yield Seen(
        text,
        f"<cputune><emulatorpin cpuset='{cpus or '…'}'/></cputune>",
        put("cputune/emulatorpin", cpuset=cpus) if cpus else None,
    )


@guest_rule(
    "pins-iothread",
    "warning",
    why="An iothread that uses a vCPU's CPU stops that while it reads and writes.",
    source="guide: IO Threads and IO Thread Pin",
)
def iothread(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain = guest.domain
    if not domain.pinned:
        return
    cpus = format_list(_free(patient, guest))
    for number in sorted({*iothread_ids(guest.xml), *domain.iothread_pins}):
        pin = domain.iothread_pins.get(number)
        if pin is None:
            text = f"iothread {number} is not pinned, and runs on the vCPUs' CPUs too"
        elif shared := pin & domain.pinned:
            text = f"iothread {number} and vCPUs are both pinned to CPU {format_list(shared)}"
        else:
            continue
        yield Seen(
            text,
            f"<cputune><iothreadpin iothread='{number}' cpuset='{cpus or '…'}'/></cputune>",
            put(f"cputune/iothreadpin[@iothread='{number}']", cpuset=cpus) if cpus else None,
        )


def _free(patient: Patient, guest: Guest) -> CpuSet:
    """The CPUs for threads that are not vCPUs: cores that no vCPU of any VM is on, near ones if
    there are."""
    host, own = patient.topology, guest.domain.pinned
    vcpus = own | taken(patient.others, host.online)
    # Other VMs may run at other times, so their CPUs are better than none.
    some = (host.online - host.siblings(vcpus), host.online - vcpus)
    free = next(filter(None, (*some, host.online - host.siblings(own))), host.online - own)
    near = frozenset[int]().union(*(node.cpus for node in host.nodes if node.cpus & own))
    return free & near or free


RULES = (emulator, iothread)
