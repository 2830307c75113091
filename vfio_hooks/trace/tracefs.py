"""A private instance of the kernel's tracer: events of some CPUs, for some seconds.

https://docs.kernel.org/trace/ftrace.html, "Instances". The instance is removed however the run
ends. If a run was killed, the next run removes its instance.
"""

import os
import re
import resource
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from vfio_hooks.errors import HookError, reason
from vfio_hooks.host.cpulist import CpuSet, format_mask
from vfio_hooks.record import record
from vfio_hooks.wait import Signals, until

FOLDERS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_NAME = "vfio-hooks-"
EVENTS = (
    *("sched/sched_switch", "irq/irq_handler_entry", "irq/irq_handler_exit"),
    *("irq/softirq_entry", "irq/softirq_exit"),
    *("timer/timer_expire_entry", "timer/hrtimer_expire_entry"),
    *("workqueue/workqueue_execute_start",),
)
_VECTORS = (
    *("local_timer", "reschedule", "call_function", "call_function_single", "irq_work"),
    *("x86_platform_ipi", "thermal_apic", "error_apic", "spurious_apic"),
)
SENDERS = "ipi/ipi_send_cpu"
"""The event of sending an interrupt to another CPU (Linux 6.4 and newer), on the sender's CPU."""
_BUFFER = 4096
"""KiB for each CPU: enough for half a minute of some thousand events a second, if reading is
late."""
_EVERY = 0.2
_CHUNK = 1 << 20


@record
class Recording:
    """Lines of the trace and, separately, of the senders of interrupts; how many seconds it took,
    which part of one CPU's time it cost, and how many events were lost."""

    lines: tuple[str, ...]
    senders: tuple[str, ...]
    seconds: float
    cost: float
    lost: int


def trace(cpus: CpuSet, seconds: float, folders: Sequence[str] = FOLDERS) -> Recording:
    """Record what happens on some CPUs. Raises HookError if the kernel cannot be asked."""
    folder = _tracefs(folders)
    _remove_stale(folder)
    lines, senders = list[str](), list[str]()
    signals = Signals()
    # A signal that raised anywhere could leave a pipe open, and its instance could not be removed.
    with signals.caught(), ExitStack() as stack:
        own, other = (stack.enter_context(_instance(folder, one)) for one in ("cpus", "senders"))
        _prepare(own, cpus)
        pipes = [(stack.enter_context(_pipe(own)), lines)]
        if _prepare_senders(other, cpus):
            pipes.append((stack.enter_context(_pipe(other)), senders))
        began, cost = time.monotonic(), _used()
        _write(own, "tracing_on", "1")
        _write(other, "tracing_on", "1")
        late = _follow(pipes, seconds, signals)
        _write(own, "tracing_on", "0")
        _write(other, "tracing_on", "0")
        took, cost = time.monotonic() - began, _used() - cost
        _drain(late)
        lost = _lost(own, cpus)
    return Recording(tuple(lines), tuple(senders), took, cost / took, lost)


def _tracefs(folders: Sequence[str]) -> str:
    for folder in folders:
        if os.path.isdir(f"{folder}/instances"):
            return folder
    raise HookError(
        f"{folders[0]}: the kernel's tracer is not available",
        "mount it: mount -t tracefs tracefs /sys/kernel/tracing; without it, leave out --trace",
    )


def _remove_stale(folder: str) -> None:
    """Remove the instances of runs that were killed. One of them may have had our pid."""
    for name in os.listdir(f"{folder}/instances"):
        found = re.fullmatch(rf"{_NAME}(\d+)-\w+", name)
        if found and (found[1] == str(os.getpid()) or not os.path.exists(f"/proc/{found[1]}")):
            with suppress(OSError):
                os.rmdir(f"{folder}/instances/{name}")


@contextmanager
def _instance(folder: str, name: str) -> Iterator[str]:
    path = f"{folder}/instances/{_NAME}{os.getpid()}-{name}"
    try:
        os.mkdir(path)
    except OSError as error:
        raise HookError(f"{path}: cannot be made: {reason(error)}", "try with sudo") from None
    try:
        yield path
    finally:
        os.rmdir(path)


def _prepare(instance: str, cpus: CpuSet) -> None:
    _write(instance, "tracing_on", "0")
    _write(instance, "buffer_size_kb", str(_BUFFER))
    _write(instance, "trace_clock", "mono")
    _write(instance, "tracing_cpumask", format_mask(cpus))
    for event in EVENTS:
        _write(instance, f"events/{event}/enable", "1")
    for vector in _VECTORS:
        for end in ("entry", "exit"):
            event = f"events/irq_vectors/{vector}_{end}/enable"
            # Which vectors exist depends on the processor and on the kernel's configuration.
            if os.path.exists(f"{instance}/{event}"):
                _write(instance, event, "1")


def _prepare_senders(instance: str, cpus: CpuSet) -> bool:
    """Whether the kernel shows the senders of interrupts to other CPUs."""
    _write(instance, "tracing_on", "0")
    if not os.path.exists(f"{instance}/events/{SENDERS}"):
        return False
    _write(instance, "buffer_size_kb", str(_BUFFER))
    _write(instance, "trace_clock", "mono")
    _write(
        instance, f"events/{SENDERS}/filter", " || ".join(f"cpu == {cpu}" for cpu in sorted(cpus))
    )
    _write(instance, f"events/{SENDERS}/enable", "1")
    return True


@contextmanager
def _pipe(instance: str) -> Iterator[int]:
    """A descriptor to read the events. An instance cannot be removed while it is open."""
    # Non-blocking: interrupts on the very CPUs that are watched would wake a reader that waits.
    descriptor = os.open(f"{instance}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


_Late = list[tuple[int, list[str], list[bytes]]]


def _follow(pipes: Sequence[tuple[int, list[str]]], seconds: float, signals: Signals) -> _Late:
    """Read what is recorded every now and then, so that nothing is lost, until the time is over or
    a signal comes."""
    late: _Late = [(descriptor, lines, []) for descriptor, lines in pipes]
    end = time.monotonic() + seconds
    while not signals.came and (left := end - time.monotonic()) > 0:
        until(lambda: False, min(left, _EVERY))
        _take(late)
    return late


def _take(late: _Late) -> None:
    for descriptor, _, parts in late:
        with suppress(BlockingIOError):
            while part := os.read(descriptor, _CHUNK):
                parts.append(part)


def _drain(late: _Late) -> None:
    _take(late)
    for _, lines, parts in late:
        lines += b"".join(parts).decode(errors="replace").splitlines()


def _lost(instance: str, cpus: CpuSet) -> int:
    """How many events did not fit into the buffers."""
    lost = 0
    for cpu in cpus:
        with open(f"{instance}/per_cpu/cpu{cpu}/stats", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file if ":" in line)
        lost += sum(int(fields.get(name, 0)) for name in ("overrun", "dropped events"))
    return lost


def _write(instance: str, name: str, text: str) -> None:
    try:
        with open(f"{instance}/{name}", "w", encoding="ascii") as file:
            file.write(text)
    except OSError as error:
        raise HookError(f"{instance}/{name}: cannot write {text!r}: {reason(error)}") from None


def _used() -> float:
    """The CPU time of this process so far, in seconds."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
