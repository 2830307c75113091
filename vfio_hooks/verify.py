"""Whether a running VM has its CPUs to itself, and its memory next to them.

All of it is what the kernel shows of QEMU's threads; libvirt is only asked, through its files
in /run, which process the VM is and what its domain says.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vfio_hooks.domain import Domain, parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import Node, nodes, online
from vfio_hooks.host.cpulist import CpuSet, format_list
from vfio_hooks.host.memory import amount
from vfio_hooks.host.threads import Thread, allowed, interrupts, memory_by_node, threads
from vfio_hooks.wait import until

RUN = "/run/libvirt/qemu"
_SHOWN = 5
"""How many tasks or interrupts a line names."""


@dataclass(frozen=True)
class Verdict:
    """One line: what it is about, how it is, and whether that is right. A note is for what may
    well be meant that way."""

    level: Literal["ok", "note", "wrong"]
    subject: str
    text: str


@dataclass
class Watch:
    """What was seen during the window: where each of QEMU's threads ran, how long other threads
    ran on the VM's CPUs (ns), and the interrupts that these had."""

    qemu: int
    cpus: CpuSet
    ran_on: dict[int, set[int]] = field(default_factory=dict)
    foreign: dict[Thread, int] = field(default_factory=dict)
    interrupts: dict[str, int] = field(default_factory=dict)


def verify(host: Host, vm: str, seconds: float) -> list[Verdict]:
    """The verdicts on a running VM. Raises HookError for one that does not run."""
    pid, domain = _process(host, vm), _domain(host, vm)
    of_vm = sorted(threads(host, pid).values(), key=lambda thread: thread.tid)
    may = {thread.tid: allowed(host, thread) for thread in of_vm}
    vcpus = [thread for thread in of_vm if _vcpu(thread) is not None]
    if not vcpus:
        raise HookError(f"{vm}: process {pid} has no vCPU thread", "it may just be ending")
    own = frozenset[int]().union(*(may[thread.tid] for thread in vcpus))
    seen = _watch(host, Watch(pid, own), seconds)
    verdicts = [
        *_vcpus(vcpus, may, seen, domain),
        *_others(of_vm, may, seen, own),
        *_memory(memory_by_node(host, pid), nodes(host), own),
    ]
    if own >= online(host):
        everywhere = "its vCPUs may use every CPU of the host, so none is its own"
        return [*verdicts, Verdict("note", "tasks and interrupts", everywhere)]
    return [*verdicts, *_tasks(seen), *_interrupts(seen)]


def _process(host: Host, vm: str) -> int:
    pid = host.maybe(f"{RUN}/{vm}.pid") if "/" not in vm else None
    if not pid or not host.exists(f"/proc/{pid}/task"):
        raise HookError(f"{vm}: no such VM runs here", "virsh list shows those that do")
    return int(pid)


def _domain(host: Host, vm: str) -> Domain:
    text = (host.maybe(f"{RUN}/{vm}.xml") or "").encode()
    start, end = text.find(b"<domain "), text.rfind(b"</domain>")
    if start < 0 or end < start:
        raise HookError(f"{RUN}/{vm}.xml: libvirt's record of the VM cannot be read")
    return parse(text[start : end + len(b"</domain>")])


def _watch(host: Host, seen: Watch, seconds: float) -> Watch:
    before = interrupts(host, seen.cpus)
    last = threads(host)

    def look() -> bool:
        nonlocal last
        now = threads(host)
        for tid, thread in now.items():
            _note(seen, thread, last.get(tid))
        last = now
        return False

    until(look, seconds)
    after = interrupts(host, seen.cpus)
    seen.interrupts = {
        name: count - before.get(name, 0)
        for name, count in after.items()
        if count > before.get(name, 0)
    }
    return seen


def _note(seen: Watch, thread: Thread, last: Thread | None) -> None:
    if thread.pid == os.getpid():
        return
    if thread.pid == seen.qemu:
        if last is None or thread.turns > last.turns:
            seen.ran_on.setdefault(thread.tid, set()).add(thread.cpu)
    elif last and thread.turns > last.turns and thread.cpu in seen.cpus:
        key = Thread(thread.pid, thread.tid, thread.name, thread.is_kernels, thread.cpu, 0, 0)
        ran = thread.runtime - last.runtime
        seen.foreign[key] = seen.foreign.get(key, 0) + ran


def _vcpu(thread: Thread) -> int | None:
    """The number of the vCPU that a thread is, by the name that QEMU gives it."""
    found = re.fullmatch(r"CPU (\d+)/\w+", thread.name)
    return int(found[1]) if found else None


def _vcpus(
    vcpus: Sequence[Thread], may: dict[int, CpuSet], seen: Watch, domain: Domain
) -> Iterator[Verdict]:
    for thread in sorted(vcpus, key=lambda one: _vcpu(one) or 0):
        number, cpus = _vcpu(thread) or 0, may[thread.tid]
        pin = domain.vcpu_pins.get(number)
        text = _places(thread, cpus, seen)
        if pin is None:
            hint = f"not pinned: <vcpupin vcpu='{number}' cpuset='...'/> in <cputune>"
            yield Verdict("note", f"vCPU {number}", f"{text}; {hint}")
        elif cpus != pin:
            yield Verdict("wrong", f"vCPU {number}", f"{text}; pinned to {format_list(pin)}")
        else:
            yield Verdict("ok", f"vCPU {number}", text)


def _others(
    of_vm: Sequence[Thread], may: dict[int, CpuSet], seen: Watch, own: CpuSet
) -> Iterator[Verdict]:
    """The emulator, which is QEMU's main thread, and the I/O threads."""
    for thread in of_vm:
        name = "emulator" if thread.tid == thread.pid else thread.name.removeprefix("IO ")
        if thread.tid != thread.pid and not thread.name.startswith("IO "):
            continue
        shared = may[thread.tid] & own
        text = _places(thread, may[thread.tid], seen)
        if shared:
            text += f"; shares CPUs {format_list(shared)} with vCPUs"
        yield Verdict("note" if shared else "ok", name, text)


def _places(thread: Thread, cpus: CpuSet, seen: Watch) -> str:
    ran = seen.ran_on.get(thread.tid)
    did = f"ran on {format_list(ran)}" if ran else "did not run"
    return f"may use CPUs {format_list(cpus)}, {did}"


def _memory(found: dict[int, int], where: Sequence[Node], own: CpuSet) -> Iterator[Verdict]:
    near = {node.number for node in where if node.cpus & own}
    total, far = (
        sum(found.values()),
        {node: size for node, size in found.items() if node not in near},
    )
    text = ", ".join(f"{amount(size)} on node {node}" for node, size in sorted(found.items()))
    place = f"the vCPUs' node is {format_list(near)}"
    if not found:
        yield Verdict("note", "memory", "the kernel does not show where it is")
    elif sum(far.values()) * 20 > total:
        # QEMU's own code and heap are wherever it was started; a twentieth is no guest memory.
        yield Verdict("wrong", "memory", f"{text}; {place}: use <numatune>")
    else:
        yield Verdict("ok", "memory", f"{text}; {place}")


def _tasks(seen: Watch) -> Iterator[Verdict]:
    subject = f"tasks on CPUs {format_list(seen.cpus)}"
    users = {thread: ran for thread, ran in seen.foreign.items() if not thread.is_kernels}
    kernels = {thread: ran for thread, ran in seen.foreign.items() if thread.is_kernels}
    if users:
        yield Verdict("wrong", subject, f"other programs ran: {_longest(users)}")
    else:
        yield Verdict("ok", subject, "no other program ran")
    if kernels:
        yield Verdict("note", subject, f"the kernel's own ran: {_longest(kernels)}")


def _longest(ran: dict[Thread, int]) -> str:
    order = sorted(ran.items(), key=lambda one: -one[1])
    told = [
        f"{one.name} ({one.tid}) {time / 1e6:.1f} ms on {one.cpu}" for one, time in order[:_SHOWN]
    ]
    return ", ".join(told) + _more(len(order))


def _interrupts(seen: Watch) -> Iterator[Verdict]:
    subject = f"interrupts on CPUs {format_list(seen.cpus)}"
    foreign = {name: count for name, count in seen.interrupts.items() if "vfio" not in name}
    order = sorted(foreign.items(), key=lambda one: -one[1])
    told = ", ".join(f"{count} of IRQ {name}" for name, count in order[:_SHOWN])
    if order:
        yield Verdict("wrong", subject, told + _more(len(order)))
    else:
        yield Verdict("ok", subject, "none of the host's devices")


def _more(count: int) -> str:
    return f" and {count - _SHOWN} more" if count > _SHOWN else ""
