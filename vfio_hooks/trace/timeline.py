"""What kept a VM from its CPUs: the trace's events as spans of time, each with its culprit."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vfio_hooks.record import record

Kind = Literal["task", "irq", "softirq", "timer", "ipi", "vector"]
_LINE = re.compile(
    r"\s*(?P<comm>.+)-(?P<pid>\d+)\s+(?:\([^)]*\)\s+)?\[(?P<cpu>\d+)\]\s+\S+\s+"
    r"(?P<time>\d+\.\d+): (?P<event>\w+): ?(?P<rest>.*)"
)
_SWITCH = re.compile(
    r"prev_comm=(?P<prev>.*) prev_pid=(?P<prev_pid>\d+) .*? ==> "
    r"next_comm=(?P<next>.*) next_pid=(?P<next_pid>\d+)"
)
_VALUE = re.compile(r"(\w+)=(\S+)")
_IPIS = ("reschedule", "call_function", "call_function_single")
_SOON = 0.001
"""How long before an interrupt arrives it may have been sent, in seconds."""


@record
class Stall:
    """A time in which a CPU did something else than run its vCPU, with its length. `name` is what
    used the CPU: a task, an interrupt's handlers, a timer's function. `sender` is what sent an
    interrupt from another CPU."""

    cpu: int
    time: float
    microseconds: float
    kind: Kind
    name: str
    sender: str = ""


@dataclass
class _Cpu:
    """What a CPU is doing at the moment. Its task is not known before the first switch."""

    task: str = ""
    pid: int = -1
    since: float = 0.0
    work: list[str] = field(default_factory=list)
    open: list[tuple[str, Kind, float]] = field(default_factory=list)
    named: str = ""


@record
class _Sent:
    time: float
    cpu: int
    comm: str
    pid: int


def stalls(lines: Iterable[str], senders: Iterable[str], vcpus: frozenset[int]) -> list[Stall]:
    """The stalls in the lines of a trace. `vcpus` are the thread numbers of the VM's vCPUs, whose
    own time does not count."""
    cpus: dict[int, _Cpu] = defaultdict(_Cpu)
    sent: dict[int, list[_Sent]] = defaultdict(list)
    for line in senders:
        if one := _sent(line):
            sent[one.cpu].append(one)
    found: list[Stall] = []
    for line in lines:
        if event := _LINE.match(line):
            cpu = int(event["cpu"])
            found += _event(cpus[cpu], cpu, event, vcpus)
    told = (_with_sender(stall, sent[stall.cpu], vcpus) for stall in found)
    return [stall for stall in told if stall]


def _event(state: _Cpu, cpu: int, event: re.Match[str], vcpus: frozenset[int]) -> Iterator[Stall]:
    name, time = event["event"], float(event["time"])
    if name == "sched_switch":
        yield from _switched(state, cpu, event["rest"], time, vcpus)
    elif name == "workqueue_execute_start":
        state.work.append(event["rest"].rpartition("function ")[2])
    elif name.endswith("expire_entry"):
        # The first one that is not the scheduler's tick, which is there nearly always.
        function = dict(_VALUE.findall(event["rest"])).get("function", "")
        if not state.named or "tick" in state.named:
            state.named = function
    elif name.endswith("_entry"):
        kind, title = _span(name, event["rest"])
        state.open.append((title, kind, time))
    elif name.endswith("_exit") and state.open:
        title, kind, began = state.open.pop()
        if not state.open:
            # Within another task's time it is a part of that time.
            if state.pid in vcpus or state.pid == 0:
                yield _closed(state, cpu, title, kind, began, time)
            state.named = ""


def _switched(
    state: _Cpu, cpu: int, rest: str, time: float, vcpus: frozenset[int]
) -> Iterator[Stall]:
    switch = _SWITCH.search(rest)
    if switch is None:
        return
    if state.pid > 0 and state.pid not in vcpus:
        work = f" ({', '.join(dict.fromkeys(state.work))})" if state.work else ""
        title = f"{state.task}-{state.pid}{work}"
        yield Stall(cpu, state.since, (time - state.since) * 1e6, "task", title)
    state.task, state.pid, state.since = switch["next"], int(switch["next_pid"]), time
    state.work.clear()


def _span(name: str, rest: str) -> tuple[Kind, str]:
    values = dict(_VALUE.findall(rest))
    if name == "irq_handler_entry":
        return "irq", f"{values.get('irq', '?')} {values.get('name', '?')}"
    if name == "softirq_entry":
        return "softirq", rest.rpartition("action=")[2].rstrip("]")
    vector = name.removesuffix("_entry")
    if vector == "local_timer":
        return "timer", vector
    return ("ipi" if vector in _IPIS else "vector"), vector


def _closed(state: _Cpu, cpu: int, title: str, kind: Kind, began: float, time: float) -> Stall:
    name = title
    if state.named:
        name = state.named if kind == "timer" else f"{title} ({state.named})"
    return Stall(cpu, began, (time - began) * 1e6, kind, name)


def _sent(line: str) -> _Sent | None:
    event = _LINE.match(line)
    if event is None or event["event"] != "ipi_send_cpu":
        return None
    cpu = dict(_VALUE.findall(event["rest"])).get("cpu", "")
    if not cpu.isdecimal():
        return None
    return _Sent(float(event["time"]), int(cpu), event["comm"].strip(), int(event["pid"]))


def _with_sender(stall: Stall, sent: Sequence[_Sent], vcpus: frozenset[int]) -> Stall | None:
    """The stall with the sender of its interrupt; None if one of the VM's own vCPUs sent it, as
    these wake each other all the time."""
    if stall.kind != "ipi":
        return stall
    place = bisect_right(sent, stall.time, key=lambda one: one.time)
    if not place or stall.time - sent[place - 1].time > _SOON:
        return stall
    last = sent[place - 1]
    if last.pid in vcpus:
        return None
    who = f"{last.comm}-{last.pid}" if last.pid else "an idle CPU"
    return Stall(stall.cpu, stall.time, stall.microseconds, "ipi", stall.name, who)
