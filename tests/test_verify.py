"""`verify` on a host of files that move on between two looks."""

import json
from typing import Any

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.cli import parser
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.cpu import NODES
from vfio_hooks.knobs.command import Command
from vfio_hooks.plugins import verify as verify_plugin
from vfio_hooks.sharing import Run
from vfio_hooks.verify import verify

QEMU = 100
XML = """<domstatus state='running'>
  <domain type='kvm' id='1'>
    <name>win</name><uuid>6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11</uuid>
    {}
  </domain>
</domstatus>"""
PINS = "<cputune><vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/></cputune>"
HEAD = "           CPU0       CPU1       CPU2       CPU3\n"


class Moving(Kernel):
    """A host that is in another state when somebody looks at its clock a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.later: dict[str, str] = {}
        self.looks = 0

    def read(self, name: str) -> str:
        if name == "/proc/uptime":
            self.looks += 1
            if self.looks == 2:
                self.files |= self.later
        return super().read(name)

    def thread(self, pid: int, tid: int, name: str, cpus: str, *cpu: int, flags: int = 0) -> None:
        """A thread that may use `cpus`. With two CPUs it was on the one, then on the other,
        for 3 ms; with one it does not run."""
        folder = f"/proc/{pid}/task/{tid}"
        self.files[f"{folder}/status"] = f"Name:\t{name}\nCpus_allowed_list:\t{cpus}\n"
        for turn, (files, where) in enumerate(zip((self.files, self.later), cpu, strict=False)):
            fields = ["S", "1", "1", "1", "0", "-1", str(flags), *["0"] * 29, str(where), "0"]
            files[f"{folder}/stat"] = f"{tid} ({name}) {' '.join(fields)}\n"
            # A vCPU that is never idle has one turn, and runs on and on.
            files[f"{folder}/schedstat"] = f"{turn * 3_000_000} 0 1\n"


def a_host(pins: str = PINS) -> Moving:
    """Two nodes of two CPUs; a VM of two vCPUs and an I/O thread, each where it belongs."""
    host = Moving()
    host.files |= {
        "/run/libvirt/qemu/win.pid": f"{QEMU}\n",
        "/run/libvirt/qemu/win.xml": XML.format(pins),
        "/sys/devices/system/cpu/online": "0-3\n",
        f"{NODES}/node0/cpumap": "3\n",
        f"{NODES}/node1/cpumap": "c\n",
        f"/proc/{QEMU}/numa_maps": "7f0 bind:1 anon=9 N1=512 kernelpagesize_kB=2048\n"
        "55d default file=/usr/bin/qemu N0=100 kernelpagesize_kB=4\n",
        "/proc/interrupts": HEAD + " 24:  1  1  1  1  PCI-MSI 65536-edge  xhci_hcd\n",
    }
    host.thread(QEMU, QEMU, "qemu-system-x86", "0-1", 0, 1)
    host.thread(QEMU, 101, "IO iothread1", "0-1", 1)
    host.thread(QEMU, 102, "CPU 0/KVM", "2", 2, 2)
    host.thread(QEMU, 103, "CPU 1/KVM", "3", 3, 3)
    host.thread(QEMU, 104, "vnc_worker", "0-1", 1)
    host.thread(200, 200, "bash (x) y", "0-3", 0, 1)
    return host


def told(host: Kernel) -> list[str]:
    return [f"{one.level} {one.subject}: {one.text}" for one in verify(host, "win", 0)]


def test_a_vm_that_is_left_alone() -> None:
    assert told(a_host()) == [
        "ok vCPU 0: may use CPU 2, ran on 2",
        "ok vCPU 1: may use CPU 3, ran on 3",
        "ok emulator: may use CPUs 0-1, ran on 1",
        "ok iothread1: may use CPUs 0-1, did not run",
        "ok memory: 400 KiB on node 0, 1 GiB on node 1; the vCPUs are on node 1",
        "ok tasks on CPUs 2-3: no other program ran",
        "ok interrupts on CPUs 2-3: none from the host's devices",
    ]


def test_a_vcpu_elsewhere_than_its_pin_says() -> None:
    host = a_host()
    host.thread(QEMU, 103, "CPU 1/KVM", "2-3", 3, 2)
    assert "wrong vCPU 1: may use CPUs 2-3, ran on 2; pinned to 3" in told(host)


def test_a_vcpu_without_a_pin() -> None:
    host = a_host("<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='2'/></cputune>")
    lines = told(host)
    assert "note vCPU 1: may use CPU 3, ran on 3; not pinned" in lines
    # As check has it.
    assert "wrong pins-missing: vCPU 1 is not pinned, although others are" in lines


def test_threads_of_qemu_on_the_vcpus_cpus() -> None:
    host = a_host()
    host.thread(QEMU, QEMU, "qemu-system-x86", "1-2", 2, 2)
    assert "wrong emulator: may use CPUs 1-2, ran on 2; shares CPU 2 with vCPUs" in told(host)


def test_an_iothread_without_work_disturbs_nobody() -> None:
    thread = "IO iothread1: may use CPU 2, ran on 2; shares CPU 2 with vCPUs"
    disk = "<devices><disk><driver iothread='1'/></disk></devices>"
    for more, level in (("", "ok"), (disk, "wrong")):
        host = a_host(f"<iothreads>1</iothreads>{PINS}{more}")
        host.thread(QEMU, 101, "IO iothread1", "2", 2, 2)
        assert f"{level} {thread.removeprefix('IO ')}" in told(host)


CELLS = (
    "<cpu><numa><cell id='0' cpus='0' memory='{}' unit='GiB'/>"
    "<cell id='1' cpus='1' memory='{}' unit='GiB'/></numa></cpu><numatune>"
    "<memnode cellid='0' mode='strict' nodeset='{}'/>"
    "<memnode cellid='1' mode='strict' nodeset='{}'/></numatune>"
)


@pytest.mark.parametrize(
    ("cpus", "cells", "gib", "wrong"),
    [
        (("2", "3"), "", (0.05, 1), ""),
        (("2", "3"), "", (0.2, 1), "node 0 has 17% of the memory, and 0% of the vCPUs"),
        (("1", "2"), "", (16, 0), "node 0 has 100% of the memory, and 50% of the vCPUs"),
        (("1", "2"), "", (11, 5), ""),
        (("1-2", "1-2"), "", (8, 8), ""),
        (("1", "2"), CELLS.format(4, 12, 0, 1), (4, 12), ""),
        (
            ("1", "2"),
            CELLS.format(4, 12, 0, 1),
            (12, 4),
            "node 0 has 75% of the memory, and 25% of it belongs there",
        ),
        (
            ("1", "2"),
            CELLS.format(8, 8, 1, 0),
            (8, 8),
            "guest node 0 is on node 1, but its vCPUs are on 0, "
            "guest node 1 is on node 0, but its vCPUs are on 1",
        ),
        # One that may be anywhere says nothing about where the memory belongs.
        (("0-3", "2"), "", (0, 16), ""),
        (("0-3", "0-3"), "", (16, 0), ""),
    ],
)
def test_memory_and_vcpus(
    cpus: tuple[str, str], cells: str, gib: tuple[float, float], wrong: str
) -> None:
    host = a_host(cells)
    for number, may in enumerate(cpus):
        host.thread(QEMU, 102 + number, f"CPU {number}/KVM", may, 2, 2)
    pages = " ".join(f"N{node}={size * 512:.0f}" for node, size in enumerate(gib))
    host.files[f"/proc/{QEMU}/numa_maps"] = f"7f0 default {pages} kernelpagesize_kB=2048\n"
    (line,) = (line for line in told(host) if " memory: " in line)
    assert line.startswith("wrong" if wrong else "ok"), line
    assert not wrong or line.endswith(f": {wrong}: see <numatune>"), line


def test_memory_that_the_kernel_does_not_show() -> None:
    host = a_host()
    del host.files[f"/proc/{QEMU}/numa_maps"]
    assert "note memory: the kernel does not show where its memory is" in told(host)


def test_who_runs_on_the_vms_cpus_is_named() -> None:
    host = a_host()
    host.thread(300, 300, "firefox", "0-3", 1, 2)
    host.thread(300, 301, "idle one", "0-3", 2)
    host.thread(9, 9, "ksoftirqd/3", "3", 3, 3, flags=0x00200000)
    lines = told(host)
    assert "wrong tasks on CPUs 2-3: other programs ran: firefox (300) 3.0 ms on 2" in lines
    assert "note tasks on CPUs 2-3: the kernel's own ran: ksoftirqd/3 (9) 3.0 ms on 3" in lines


def test_a_program_that_began_meanwhile() -> None:
    host = a_host()
    host.thread(300, 300, "make", "0-3", 0, 2)
    del host.files["/proc/300/task/300/stat"]
    assert "wrong tasks on CPUs 2-3: other programs ran: make (300) 3.0 ms on 2" in told(host)


@pytest.mark.parametrize(
    ("idle", "name", "lines"),
    [
        # 400 ms of CPU 2; its vCPU had 3 of them.
        (
            60,
            "",
            ["note tasks on CPUs 2-3: 397 ms went to programs that ran too briefly to be seen"],
        ),
        (96, "", ["ok tasks on CPUs 2-3: no other program ran"]),
        (
            60,
            "make",
            [
                "wrong tasks on CPUs 2-3: other programs ran: make (300) 3.0 ms on 2",
                "wrong tasks on CPUs 2-3: 394 ms went to programs that ran too briefly to be seen",
            ],
        ),
    ],
)
def test_time_that_is_nobodys(idle: int, name: str, lines: list[str]) -> None:
    host = a_host()
    if name:
        host.thread(300, 300, name, "0-3", 2, 2)
    host.files["/proc/uptime"] = "100.00 800.00\n"
    host.later["/proc/uptime"] = "101.00 803.00\n"
    for files, ticks in ((host.files, 0), (host.later, idle)):
        # CPU 0 is busy all the time, and CPU 3 never.
        rows = ((0, 0, 0), (2, ticks, 0), (3, ticks and 90, ticks and 10))
        files["/proc/stat"] = "cpu  1 2 3 4\n" + "".join(
            f"cpu{cpu} 50 0 50 {5000 + idled} 7 8 {9 + irqs} 0 50 0\n" for cpu, idled, irqs in rows
        )
    assert [line for line in told(host) if " tasks " in line] == lines


def test_interrupts_of_the_hosts_devices_are_counted() -> None:
    host = a_host()
    host.later["/proc/interrupts"] = (
        HEAD
        + " 24:  9  9  4  6  PCI-MSI 65536-edge  xhci_hcd\n"
        + " 30:  0  0  7  0  PCI-MSI 12-edge  vfio-msix[0](0000:04:00.0)\n"
        + "LOC:  5  5  5  5  Local timer interrupts\n"
    )
    assert "wrong interrupts on CPUs 2-3: 8 of IRQ 24 xhci_hcd" in told(host)


@pytest.mark.parametrize(
    ("default", "cpus", "told_of"),
    [
        ("3", "1-2", "; the kernel itself places IRQ 31: isolcpus=managed_irq,2-3 on its command"),
        ("3", "2", ""),  # the queue of that CPU alone
        ("f", "1-2", ""),  # nothing was moved anywhere
    ],
)
def test_an_interrupt_that_the_kernel_places(default: str, cpus: str, told_of: str) -> None:
    host = a_host()
    host.files["/proc/irq/default_smp_affinity"] = default + "\n"
    host.files["/proc/irq/31/smp_affinity_list"] = cpus + "\n"
    host.later["/proc/interrupts"] = HEAD + " 31:  0  0  5  0  PCI-MSIX 1-edge  nvme0q2\n"
    line = f"wrong interrupts on CPUs 2-3: 5 of IRQ 31 nvme0q2{told_of}"
    (found,) = (one for one in told(host) if " interrupts " in one)
    assert found.startswith(line) and ("isolcpus" in found) == bool(told_of), found


def test_a_vcpu_that_may_be_anywhere_hides_nothing_of_the_others() -> None:
    host = a_host("<cputune><vcpupin vcpu='0' cpuset='2'/></cputune>")
    host.thread(QEMU, 103, "CPU 1/KVM", "0-3", 3, 3)
    host.thread(300, 300, "firefox", "0-3", 1, 2)
    assert "wrong tasks on CPU 2: other programs ran: firefox (300) 3.0 ms on 2" in told(host)


def test_a_vm_on_all_cpus_has_none_of_its_own() -> None:
    host = a_host("")
    host.thread(QEMU, 102, "CPU 0/KVM", "0-3", 2, 2)
    host.thread(QEMU, 103, "CPU 1/KVM", "0-3", 3, 3)
    assert told(host)[-1].startswith("note tasks and interrupts: its vCPUs may use every CPU")


@pytest.mark.parametrize("vm", ["other", "../win", ""])
def test_a_vm_that_does_not_run(vm: str) -> None:
    with pytest.raises(HookError, match="no such VM runs here; virsh list"):
        verify(a_host(), vm, 0)


def run(host: Kernel, patch: pytest.MonkeyPatch, *argv: str) -> int:
    patch.setattr("vfio_hooks.paths.Paths.host", lambda paths: host)
    patch.setattr("os.geteuid", lambda: 0)
    arguments = parser().parse_args(["verify", "win", "--seconds", "0", *argv])
    return int(arguments.run(arguments))


def test_the_verb_prints_a_verdict_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(a_host(), monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    vCPU 0: may use CPU 2, ran on 2"
    assert len(lines) == 7
    host = a_host()
    host.thread(300, 300, "fire\033fox", "0-3", 1, 2)
    assert run(host, monkeypatch) == 1
    assert "fire\\x1bfox" in capsys.readouterr().out


def test_the_verb_prints_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(a_host(), monkeypatch, "--json") == 0
    data: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert data["vm"] == "win"
    assert data["verdicts"][0] == {
        "level": "ok",
        "subject": "vCPU 0",
        "text": "may use CPU 2, ran on 2",
    }


@pytest.mark.parametrize("text", ["-1", "x", "nan", "3601"])
def test_seconds_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["verify", "win", "--seconds", text])
    assert "is not a number of seconds" in capsys.readouterr().err


def test_verdicts_in_the_log_soon_after_the_start() -> None:
    vm = Domain(name="vm", uuid="00000000-0000-0000-0000-000000000001")
    options = verify_plugin.Options(seconds=2)
    (step,) = verify_plugin.plan(Event("vm", "started"), vm, options, Host())
    assert isinstance(step.knob, Command) and step.share == Run()
    assert step.until == "stopped" and not step.required
    assert step.knob.do[-5:] == ("verify", "--log", "--seconds=2", "--", "vm")
    assert not list(verify_plugin.plan(Event("vm", "prepare"), vm, options, Host()))
    with pytest.raises(ValueError, match="more than 0"):
        verify_plugin.Options(seconds=0)
