"""verify --trace: the kernel's events become stalls with culprits, added up and compared."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command
from tests.sealed import can_seal
from vfio_hooks.cli import traced
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.trace.histogram import svg
from vfio_hooks.trace.report import (
    BOUNDS,
    Report,
    culprits,
    histogram,
    of_cpus,
    percentile,
    remedy,
)
from vfio_hooks.trace.timeline import Kind, Stall, stalls
from vfio_hooks.trace.tracefs import Recording, trace
from vfio_hooks.verify import own_cpus

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
VCPU = 4711
CPUS = frozenset({4, 5})
# As Linux 6.18 and 7.2 print them.
SWITCH = (
    "      {comm}-{pid}   [{cpu:03}] d..2.  {time:.6f}: sched_switch: prev_comm={comm} "
    "prev_pid={pid} prev_prio=120 prev_state=S ==> next_comm={after} next_pid={next_pid} "
    "next_prio=120"
)


def switch(time: float, before: tuple[str, int], after: tuple[str, int], cpu: int = 4) -> str:
    return SWITCH.format(
        comm=before[0], pid=before[1], cpu=cpu, time=time, after=after[0], next_pid=after[1]
    )


def event(time: float, text: str, who: str = f"CPU 0/KVM-{VCPU}", cpu: int = 4) -> str:
    return f"       {who}    [{cpu:03}] d.h1.  {time:.6f}: {text}"


GUEST = ("CPU 0/KVM", VCPU)
IDLE = ("swapper/4", 0)


def seen(*lines: str, senders: tuple[str, ...] = ()) -> list[tuple[str, str, float, str]]:
    found = stalls(lines, senders, frozenset({VCPU}))
    return [(one.kind, one.name, round(one.microseconds), one.sender) for one in found]


def test_a_task_on_the_cpu_is_a_stall() -> None:
    assert seen(
        switch(1.0, IDLE, GUEST),
        switch(1.1, GUEST, ("make -j8", 900)),
        switch(1.105, ("make -j8", 900), GUEST),
        switch(1.2, GUEST, IDLE),
        switch(1.3, IDLE, GUEST),
    ) == [("task", "make -j8-900", 5000, "")]


def test_what_a_worker_does_is_named() -> None:
    worker = ("kworker/4:1", 61)
    work = "workqueue_execute_start: work struct 00000000adc77c2b: function vmstat_update"
    assert seen(
        switch(1.0, GUEST, worker),
        event(1.000001, work, "kworker/4:1-61"),
        switch(1.00001, worker, GUEST),
    ) == [("task", "kworker/4:1-61 (vmstat_update)", 10, "")]


def test_interrupts_timers_and_softirqs() -> None:
    assert seen(
        switch(1.0, IDLE, GUEST),
        event(2.0, "irq_handler_entry: irq=39 name=eth0-rx-0"),
        event(2.00002, "irq_handler_exit: irq=39 ret=handled"),
        event(2.00003, "softirq_entry: vec=3 [action=NET_RX]"),
        event(2.00008, "softirq_exit: vec=3 [action=NET_RX]"),
        event(3.0, "local_timer_entry: vector=236"),
        event(
            3.000001, "hrtimer_expire_entry: hrtimer=00000000c9 function=tick_nohz_handler now=1"
        ),
        event(3.000002, "hrtimer_expire_entry: hrtimer=00000000ca function=hrtimer_wakeup now=1"),
        event(3.00001, "local_timer_exit: vector=236"),
        event(4.0, "local_timer_entry: vector=236"),
        event(4.000005, "local_timer_exit: vector=236"),
    ) == [
        ("irq", "39 eth0-rx-0", 20, ""),
        ("softirq", "NET_RX", 50, ""),
        ("timer", "hrtimer_wakeup", 10, ""),
        ("timer", "local_timer", 5, ""),
    ]


def test_an_interrupt_within_another_programs_time_is_a_part_of_that() -> None:
    other = ("make", 900)
    assert seen(
        switch(1.0, GUEST, other),
        event(1.0001, "irq_handler_entry: irq=39 name=eth0", "make-900"),
        event(1.0002, "irq_handler_exit: irq=39 ret=handled", "make-900"),
        switch(1.001, other, GUEST),
    ) == [("task", "make-900", 1000, "")]


def test_the_sender_of_an_interrupt_is_named_and_the_vms_own_are_left_out() -> None:
    def sent(time: float, who: str, to: int) -> str:
        text = f"ipi_send_cpu: cpu={to} callsite=ttwu_queue callback=0x0"
        return event(time, text, who, cpu=1)

    lines = [switch(1.0, IDLE, GUEST)]
    for begin in (2.0, 3.0, 4.0, 5.0):
        lines.append(event(begin, "call_function_single_entry: vector=251"))
        lines.append(event(begin + 0.000007, "call_function_single_exit: vector=251"))
    senders = (
        sent(1.9999, "make-900", 4),
        sent(2.9999, f"CPU 1/KVM-{VCPU}", 4),
        sent(3.9999, "make-900", 5),
        sent(4.99995, "<idle>-0", 4),
    )
    assert seen(*lines, senders=senders) == [
        ("ipi", "call_function_single", 7, "make-900"),
        ("ipi", "call_function_single", 7, ""),
        ("ipi", "call_function_single", 7, "an idle CPU"),
    ]


def test_a_beginning_and_an_end_that_were_cut_off() -> None:
    assert (
        seen(
            event(1.0, "irq_handler_exit: irq=39 ret=handled"),
            "CPU:4 [LOST 12 EVENTS]",
            switch(2.0, ("make", 900), GUEST),
            event(3.0, "irq_handler_entry: irq=39 name=eth0"),
        )
        == []
    )


FOUND = [
    Stall(4, 1.0, 5000, "task", "make-900"),
    Stall(4, 2.0, 20, "irq", "39 eth0"),
    Stall(5, 2.0, 40, "irq", "39 eth0"),
    Stall(5, 3.0, 3, "ipi", "reschedule", "make-900"),
]


def test_sums_by_cpu() -> None:
    four, five = of_cpus(FOUND, CPUS, 10)
    assert (four.count, four.share, four.longest, four.culprit) == (
        2,
        5020 / 1e7,
        5000,
        "task make-900",
    )
    assert five.percentiles == (3, 40, 40)
    (six,) = of_cpus(FOUND, frozenset({6}), 10)
    assert (six.count, six.culprit, six.percentiles) == (0, "", (0, 0, 0))


def test_sums_by_culprit_the_longest_first() -> None:
    task, irq, ipi = culprits(FOUND, CPUS)
    assert (task.name, task.remedy) == ("make-900", "[cpus]")
    assert (irq.count, irq.total, irq.longest, irq.cpus) == (2, 60, 40, "4-5")
    assert ipi.senders == ("make-900",)


@pytest.mark.parametrize(
    ("part", "expected"), [(0, 1), (50, 2), (75, 3), (99, 4), (99.9, 4), (100, 4)]
)
def test_percentiles(part: float, expected: int) -> None:
    assert percentile([1, 2, 3, 4], part) == expected


def test_the_histogram_has_each_stall_once() -> None:
    counts = histogram([*FOUND, Stall(4, 1, 10**6, "task", "x"), Stall(4, 1, 5, "task", "x")])
    assert (sum(counts), counts[0], counts[1], counts[-1]) == (6, 1, 1, 1)
    assert len(counts) == len(BOUNDS) + 1


@pytest.mark.parametrize(
    ("kind", "name", "expected"),
    [
        ("task", "make-900", "[cpus]"),
        ("task", "kworker/u16:2-77 (wb_workfn)", "[cpus]"),
        ("task", "kworker/4:1-61 (vmstat_update)", "[memory] stat_interval"),
        ("task", "kworker/4:1-61 (something)", ""),
        ("task", "ksoftirqd/4-40", ""),
        ("task", "irq/39-eth0-800", "[irqs]"),
        ("task", "rcu_preempt-17", "rcu_nocbs=4-5 at boot"),
        ("irq", "39 eth0", "[irqs]"),
        ("irq", "72 nvme1q1", "isolcpus=managed_irq,4-5 at boot"),
        ("timer", "tick_nohz_handler", "nohz_full=4-5 at boot"),
        ("timer", "watchdog_timer_fn", "soft_watchdog = 0 in [memory]"),
        ("timer", "hrtimer_wakeup", "[cpus]: a program set this timer on the CPU"),
        ("softirq", "RCU", "rcu_nocbs=4-5 at boot"),
        ("ipi", "call_function", "[cpus], so that the programs that send it run elsewhere"),
        ("vector", "thermal_apic", ""),
    ],
)
def test_what_takes_a_culprit_away(kind: Kind, name: str, expected: str) -> None:
    assert remedy(kind, name, CPUS) == expected


def report(stalled: list[Stall], seconds: float = 10, lost: int = 0) -> Report:
    sums = of_cpus(stalled, CPUS, seconds), culprits(stalled, CPUS), histogram(stalled)
    return Report("win11", seconds, 0.004, lost, *sums)


def test_the_picture_has_a_column_for_each_length() -> None:
    drawn = svg(report(FOUND))
    assert drawn.count("<rect ") == len(BOUNDS) + 1
    assert "≥ 20000" in drawn


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        switch(1.0, IDLE, GUEST),
        switch(1.1, GUEST, ("make", 900)),
        switch(1.105, ("make", 900), GUEST),
    )
    monkeypatch.setattr("vfio_hooks.cli.verify.need_root", lambda what: None)
    monkeypatch.setattr(traced, "own_cpus", lambda host, vm: (CPUS, frozenset({VCPU})))
    monkeypatch.setattr(traced, "trace", lambda cpus, seconds: Recording(lines, (), 10.0, 0.004, 7))


@pytest.mark.usefixtures("measured")
def test_what_is_printed(command: Command) -> None:
    shown = command("verify", "win11", "--trace")
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.splitlines() == [
        " CPU  stalls     time     50 %     99 %   99.9 %    longest  by",
        "   4       1   0.050%     5000     5000     5000    5000 µs  task make-900",
        "   5       0   0.000%        0        0        0       0 µs",
        "",
        "task make-900 on CPUs 4: 0/s, 500 µs/s, up to 5000 µs",
        "    can be avoided with [cpus]",
        "10.0 s; measuring took 0.4% of one CPU",
        "7 events were lost; measure for a shorter time",
    ]


@pytest.mark.usefixtures("measured")
def test_two_measurements_side_by_side(command: Command, tmp_path: Path) -> None:
    before, after, picture = tmp_path / "before", tmp_path / "after", tmp_path / "x.svg"
    before.write_text(command("verify", "win11", "--trace", "--json", "--svg", str(picture)).out)
    assert picture.read_text().startswith("<svg ")
    made = json.loads(before.read_text())
    after.write_text(json.dumps({**made, "culprits": [], "cpus": []}))
    shown = command("verify", "--compare", str(before), str(after)).out.splitlines()
    assert [line.split()[-2:] for line in shown[1:4]] == [
        ["0.1", "0.0"],
        ["500.0", "0.0"],
        ["5000.0", "0.0"],
    ]
    assert shown[4].split() == ["task", "make-900", "500", "µs/s", "-"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"cpus": 3}'])
def test_a_file_that_is_no_measurement(command: Command, tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    done = command("verify", "--compare", str(tmp_path / "x"), str(tmp_path / "x"))
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "not a measurement; save one: " in done.err


@pytest.mark.usefixtures("measured")
def test_a_host_that_is_files_cannot_be_traced(command: Command) -> None:
    done = command("verify", "win11", "--trace", "--root", str(command.host))
    assert (done.code, "is not a running host" in done.err) == (1, True)


def test_which_vm_has_to_be_said(command: Command) -> None:
    assert command("verify").err == "vfio-hooks: which VM? give the name of a running VM\n"


def test_a_kernel_without_a_tracer(tmp_path: Path) -> None:
    with pytest.raises(HookError, match="the kernel's tracer is not available"):
        trace(CPUS, 0.1, (str(tmp_path),))


REAL = """
mount -t tracefs tracefs /sys/kernel/tracing || exit 77
mkdir /sys/kernel/tracing/instances/vfio-hooks-4194305-cpus
{python} - <<'END'
import os
from vfio_hooks.trace.tracefs import trace
cpu = frozenset([min(os.sched_getaffinity(0))])
# So that at least this program comes and goes there.
os.sched_setaffinity(0, cpu)
made = trace(cpu, 1)
assert any("sched_switch" in line for line in made.lines), made.lines[:3]
assert made.seconds >= 1 and made.lost >= 0
left = os.listdir("/sys/kernel/tracing/instances")
assert not any(f"-{{number}}-" in name for name in left for number in (os.getpid(), 4194305))
END
"""
# The signal comes at the worst moments: just after an instance was made, and a pipe opened.
ENDED = """
mount -t tracefs tracefs /sys/kernel/tracing || exit 77
{python} - <<'END'
import os, signal, subprocess, sys
PROGRAM = '''
import os, sys
from vfio_hooks.trace.tracefs import trace

call, number = getattr(os, sys.argv[1]), int(sys.argv[2])

def then_signal(*arguments):
    made = call(*arguments)
    os.kill(os.getpid(), number)
    return made

setattr(os, sys.argv[1], then_signal)
trace(frozenset([0]), 600)
'''
for call in ("mkdir", "open"):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A shell's background and nohup have some ignored, and so would the children.
        signal.signal(number, signal.SIG_DFL)
        command = [sys.executable, "-c", PROGRAM, call, str(int(number))]
        child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            assert child.wait(60) == -number, (call, number)
        finally:
            child.kill()
        left = os.listdir("/sys/kernel/tracing/instances")
        assert not any(f"-{{child.pid}}-" in name for name in left), (call, number)
END
"""


@pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")
@pytest.mark.parametrize("script", [REAL, ENDED], ids=["to the end", "ended by a signal"])
def test_a_real_kernel_is_traced_and_left_as_it_was(script: str) -> None:
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script.format(python=sys.executable)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode == 77:
        pytest.skip("this kernel has no tracefs")
    assert (done.returncode, done.stderr) == (0, "")


def test_own_cpus_are_those_of_the_vcpus(tmp_path: Path) -> None:
    assert Host("/").is_this_machine
    with pytest.raises(HookError, match="no such VM runs here"):
        own_cpus(Host(str(tmp_path)), "win11")


def test_stalls_are_found_at_some_thousand_events_a_second() -> None:
    """Counted, not timed: each line is looked at once, whatever came before it."""
    lines: list[Any] = []
    for number in range(2000):
        time = 1 + number / 1000
        lines.append(switch(time, GUEST, ("make", 900)))
        lines.append(switch(time + 0.0005, ("make", 900), GUEST))
    assert len(stalls(iter(lines), (), frozenset({VCPU}))) == 2000
    assert os.cpu_count()
