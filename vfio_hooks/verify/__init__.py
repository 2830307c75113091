"""Whether a running VM has its CPUs to itself, and its memory next to them.

The kernel shows what QEMU's threads do. libvirt's files in /run only say which process the VM is,
and what its domain is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from vfio_hooks import RUNNING
from vfio_hooks.domain import Domain, guarded, parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import nodes, online, topology
from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list, parse_mask
from vfio_hooks.host.irq import DEFAULT, FOLDER
from vfio_hooks.host.threads import Thread, allowed, memory_by_node, threads
from vfio_hooks.placement import faults, room
from vfio_hooks.plural import numbered
from vfio_hooks.record import record
from vfio_hooks.services import pidfile
from vfio_hooks.verify.memory_nodes import far, homes, placed
from vfio_hooks.verify.window import Watch, watch

_VCPU = re.compile(r"CPU (\d+)/\w+")
"""The name that QEMU gives the thread of a vCPU."""
_SHOWN = 5
"""How many tasks or interrupts a line names at most."""


@record
class Verdict:
    """One line: its subject, what was seen, and whether that is right. A note is for something that
    may be intended."""

    level: Literal["ok", "note", "wrong"]
    subject: str
    text: str


def verify(host: Host, vm: str, seconds: float) -> list[Verdict]:
    """The verdicts on a running VM, after a watch of so many seconds. Raises HookError for a VM
    that does not run."""
    pid, domain = _process(host, vm), _domain(host, vm)
    of_vm = sorted(threads(host, pid).values(), key=lambda thread: thread.tid)
    may = {thread.tid: allowed(host, thread) for thread in of_vm}
    vcpus = _vcpu_threads(of_vm, vm)
    kept = _kept(host, vcpus, may)
    own = frozenset[int]().union(*kept.values())
    seen = watch(host, pid, own, seconds)
    verdicts = [
        *_vcpus(vcpus, may, seen, domain),
        *_others(of_vm, may, seen, own, domain),
        *_place(host, domain),
        _memory(host, pid, domain, kept),
    ]
    if not own:
        text = "its vCPUs may use every CPU of the host, so it has no CPU to itself"
        return [*verdicts, Verdict("note", "tasks and interrupts", text)]
    return [*verdicts, *disturbances(host, seen)]


def own_cpus(host: Host, vm: str) -> tuple[CpuSet, frozenset[int]]:
    """The CPUs that a running VM has to itself, and the thread numbers of its vCPUs. Raises
    HookError for a VM that does not run, or has no CPU to itself."""
    vcpus = _vcpu_threads(list(threads(host, _process(host, vm)).values()), vm)
    kept = _kept(host, vcpus, {thread.tid: allowed(host, thread) for thread in vcpus})
    if not kept:
        raise HookError(
            f"{vm}: its vCPUs may use every CPU of the host, so it has no CPU to itself",
            "pin them: vfio-hooks init --pins chooses CPUs",
        )
    return frozenset[int]().union(*kept.values()), frozenset(thread.tid for thread in vcpus)


def _vcpu_threads(of_vm: Sequence[Thread], vm: str) -> list[Thread]:
    vcpus = [thread for thread in of_vm if _VCPU.fullmatch(thread.name)]
    if not vcpus:
        raise HookError(f"{vm} has no vCPU thread", "it may be ending right now")
    return vcpus


def _kept(host: Host, vcpus: Sequence[Thread], may: Mapping[int, CpuSet]) -> dict[int, CpuSet]:
    """The CPUs of each vCPU that is pinned. A vCPU that may use every CPU is left out, so that the
    others can still be checked."""
    everywhere = online(host)
    return {_number(one): may[one.tid] for one in vcpus if not may[one.tid] >= everywhere}


def disturbances(host: Host, seen: Watch) -> list[Verdict]:
    """What came to the watched CPUs and did not belong to their VM."""
    return [*_tasks(seen), *_interrupts(host, seen)]


def _process(host: Host, vm: str) -> int:
    pid = host.maybe(pidfile(vm)) if "/" not in vm else None
    if not pid or not host.exists(f"/proc/{pid}/task"):
        raise HookError(f"{vm}: no such VM runs here", "virsh list shows those that run")
    return int(pid)


def _domain(host: Host, vm: str) -> Domain:
    text = (host.maybe(f"{RUNNING}/{vm}.xml") or "").encode()
    start, end = text.find(b"<domain "), text.rfind(b"</domain>")
    if start < 0 or end < start:
        raise HookError(f"{RUNNING}/{vm}.xml: libvirt's record of the VM cannot be read")
    return guarded(parse(text[start : end + len(b"</domain>")]))


def _number(vcpu: Thread) -> int:
    found = _VCPU.fullmatch(vcpu.name)
    return int(found[1]) if found else 0


def _vcpus(
    vcpus: Sequence[Thread], may: dict[int, CpuSet], seen: Watch, domain: Domain
) -> Iterator[Verdict]:
    for thread in sorted(vcpus, key=_number):
        number, cpus = _number(thread), may[thread.tid]
        pin = domain.vcpu_pins.get(number)
        text = _places(thread, cpus, seen)
        if pin is None:
            yield Verdict("note", f"vCPU {number}", f"{text}; not pinned")
        elif cpus != pin:
            yield Verdict("wrong", f"vCPU {number}", f"{text}; pinned to {format_list(pin)}")
        else:
            yield Verdict("ok", f"vCPU {number}", text)


def _others(
    of_vm: Sequence[Thread], may: dict[int, CpuSet], seen: Watch, own: CpuSet, domain: Domain
) -> Iterator[Verdict]:
    """The emulator, which is QEMU's main thread, and the I/O threads."""
    idle = {f"IO iothread{one}" for one in domain.iothreads if one not in domain.working_iothreads}
    for thread in of_vm:
        name = "emulator" if thread.tid == thread.pid else thread.name.removeprefix("IO ")
        if thread.tid != thread.pid and not thread.name.startswith("IO "):
            continue
        shared = may[thread.tid] & own
        text = _places(thread, may[thread.tid], seen)
        if shared:
            text += f"; shares {numbered('CPU', shared)} with vCPUs"
        yield Verdict("wrong" if shared and thread.name not in idle else "ok", name, text)


def _place(host: Host, domain: Domain) -> Iterator[Verdict]:
    """What is wrong with the domain's placement, without the threads that were checked above."""
    for fault in faults(room(host, topology(host), domain)):
        if fault.name not in ("pins-emulator", "pins-iothread"):
            level: Literal["note", "wrong"] = "note" if fault.kind.level == "hint" else "wrong"
            yield Verdict(level, fault.name, fault.text)


def _places(thread: Thread, cpus: CpuSet, seen: Watch) -> str:
    ran = seen.ran_on.get(thread.tid)
    did = f"ran on {format_list(ran)}" if ran else "did not run"
    return f"may use {numbered('CPU', cpus)}, {did}"


def _memory(host: Host, pid: int, domain: Domain, vcpus: Mapping[int, CpuSet]) -> Verdict:
    found, where = memory_by_node(host, pid), nodes(host)
    if not found:
        return Verdict("note", "memory", "the kernel does not show where its memory is")
    text = placed(found)
    if vcpus:
        text += f"; the vCPUs are on {numbered('node', homes(vcpus.values(), where))}"
    if wrong := far(found, domain, vcpus, where):
        return Verdict("wrong", "memory", f"{text}: {', '.join(wrong)}: see <numatune>")
    return Verdict("ok", "memory", text)


def _tasks(seen: Watch) -> Iterator[Verdict]:
    subject = f"tasks on {numbered('CPU', seen.cpus)}"
    users = {thread: ran for thread, ran in seen.foreign.items() if not thread.is_kernels}
    kernels = {thread: ran for thread, ran in seen.foreign.items() if thread.is_kernels}
    if users:
        yield Verdict("wrong", subject, f"other programs ran: {_longest(users)}")
    elif not seen.unseen:
        yield Verdict("ok", subject, "no other program ran")
    if seen.unseen:
        short = f"{seen.unseen / 1e6:.0f} ms went to programs that ran too briefly to be seen"
        yield Verdict("wrong" if users else "note", subject, short)
    if kernels:
        yield Verdict("note", subject, f"the kernel's own ran: {_longest(kernels)}")


def _longest(ran: dict[Thread, int]) -> str:
    order = sorted(ran.items(), key=lambda one: -one[1])
    told = [
        f"{one.name} ({one.tid}) {time / 1e6:.1f} ms on {one.cpu}" for one, time in order[:_SHOWN]
    ]
    return ", ".join(told) + _more(len(order))


def _interrupts(host: Host, seen: Watch) -> Iterator[Verdict]:
    subject = f"interrupts on {numbered('CPU', seen.cpus)}"
    foreign = {name: count for name, count in seen.interrupts.items() if "vfio" not in name}
    order = sorted(foreign.items(), key=lambda one: -one[1])
    told = ", ".join(f"{count} of IRQ {name}" for name, count in order[:_SHOWN])
    if not order:
        yield Verdict("ok", subject, "none from the host's devices")
        return
    told += _more(len(order))
    if managed := [
        number for name in foreign if _is_managed(host, number := name.split()[0], seen)
    ]:
        told += f"; the kernel itself places IRQ {', '.join(managed)}: "
        told += f"isolcpus=managed_irq,{format_list(seen.cpus)} on its command line keeps it off"
    yield Verdict("wrong", subject, told)


def _is_managed(host: Host, number: str, seen: Watch) -> bool:
    """Whether an interrupt stayed where others were moved away, although it could be on another
    CPU."""
    cpus = parse_list(host.maybe(f"{FOLDER}/{number}/smp_affinity_list") or "")
    moved = not parse_mask(host.maybe(DEFAULT) or "0") & seen.cpus
    return moved and bool(cpus & seen.cpus) and bool(cpus - seen.cpus)


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""
