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
from vfio_hooks.host.memory import NODES
from vfio_hooks.knobs import Command
from vfio_hooks.plugins import verify as verify_plugin
from vfio_hooks.sharing import Run
from vfio_hooks.verify import verify

QEMU = 100
XML = """<domstatus state='running'>
  <domain type='kvm' id='1'>
    <name>win</name><uuid>6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11</uuid>
    <cputune>{}</cputune>
  </domain>
</domstatus>"""
PINS = "<vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/>"
HEAD = "           CPU0       CPU1       CPU2       CPU3\n"


class Moving(Kernel):
    """A host whose threads are in another state when they are listed a second time."""

    def __init__(self) -> None:
        super().__init__()
        self.later: dict[str, str] = {}
        self.looks = 0

    def names(self, folder: str) -> list[str]:
        if folder == "/proc":
            self.looks += 1
            if self.looks == 2:
                self.files |= self.later
        return super().names(folder)

    def thread(self, pid: int, tid: int, name: str, cpus: str, *cpu: int, flags: int = 0) -> None:
        """A thread that may use `cpus`. With two CPUs it was on the one, then on the other,
        for 3 ms; with one it does not run."""
        folder = f"/proc/{pid}/task/{tid}"
        self.files[f"{folder}/status"] = f"Name:\t{name}\nCpus_allowed_list:\t{cpus}\n"
        for turn, (files, where) in enumerate(zip((self.files, self.later), cpu, strict=False)):
            fields = ["S", "1", "1", "1", "0", "-1", str(flags), *["0"] * 29, str(where), "0"]
            files[f"{folder}/stat"] = f"{tid} ({name}) {' '.join(fields)}\n"
            files[f"{folder}/schedstat"] = f"{turn * 3_000_000} 0 {turn}\n"


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
        "ok vCPU 0: may use CPUs 2, ran on 2",
        "ok vCPU 1: may use CPUs 3, ran on 3",
        "ok emulator: may use CPUs 0-1, ran on 1",
        "ok iothread1: may use CPUs 0-1, did not run",
        "ok memory: 400 KiB on node 0, 1 GiB on node 1; the vCPUs' node is 1",
        "ok tasks on CPUs 2-3: no other program ran",
        "ok interrupts on CPUs 2-3: none of the host's devices",
    ]


def test_a_vcpu_elsewhere_than_its_pin_says() -> None:
    host = a_host()
    host.thread(QEMU, 103, "CPU 1/KVM", "2-3", 3, 2)
    assert "wrong vCPU 1: may use CPUs 2-3, ran on 2; pinned to 3" in told(host)


def test_a_vcpu_without_a_pin_is_told_the_line_to_add() -> None:
    host = a_host("<vcpupin vcpu='0' cpuset='2'/>")
    note = "note vCPU 1: may use CPUs 3, ran on 3; not pinned: <vcpupin vcpu='1' cpuset='...'/>"
    assert any(line.startswith(note) for line in told(host))


def test_threads_of_qemu_on_the_vcpus_cpus() -> None:
    host = a_host()
    host.thread(QEMU, QEMU, "qemu-system-x86", "1-2", 2, 2)
    note = "note emulator: may use CPUs 1-2, ran on 2; shares CPUs 2 with vCPUs"
    assert note in told(host)


def test_memory_on_the_other_node() -> None:
    host = a_host()
    host.files[f"/proc/{QEMU}/numa_maps"] = "7f0 default N0=100 N1=412 kernelpagesize_kB=2048\n"
    line = "200 MiB on node 0, 824 MiB on node 1; the vCPUs' node is 1: use <numatune>"
    assert f"wrong memory: {line}" in told(host)
    del host.files[f"/proc/{QEMU}/numa_maps"]
    assert "note memory: the kernel does not show where it is" in told(host)


def test_who_runs_on_the_vms_cpus_is_named() -> None:
    host = a_host()
    host.thread(300, 300, "firefox", "0-3", 1, 2)
    host.thread(300, 301, "idle one", "0-3", 2)
    host.thread(9, 9, "ksoftirqd/3", "3", 3, 3, flags=0x00200000)
    lines = told(host)
    assert "wrong tasks on CPUs 2-3: other programs ran: firefox (300) 3.0 ms on 2" in lines
    assert "note tasks on CPUs 2-3: the kernel's own ran: ksoftirqd/3 (9) 3.0 ms on 3" in lines


def test_interrupts_of_the_hosts_devices_are_counted() -> None:
    host = a_host()
    host.later["/proc/interrupts"] = (
        HEAD
        + " 24:  9  9  4  6  PCI-MSI 65536-edge  xhci_hcd\n"
        + " 30:  0  0  7  0  PCI-MSI 12-edge  vfio-msix[0](0000:04:00.0)\n"
        + "LOC:  5  5  5  5  Local timer interrupts\n"
    )
    assert "wrong interrupts on CPUs 2-3: 8 of IRQ 24 xhci_hcd" in told(host)


def test_a_vm_on_all_cpus_has_none_of_its_own() -> None:
    host = a_host("")
    host.thread(QEMU, 102, "CPU 0/KVM", "0-3", 2, 2)
    assert told(host)[-1].startswith("note tasks and interrupts: its vCPUs may use every CPU")


@pytest.mark.parametrize("vm", ["other", "../win", ""])
def test_a_vm_that_does_not_run(vm: str) -> None:
    with pytest.raises(HookError, match="no such VM runs here; virsh list"):
        verify(a_host(), vm, 0)


def run(host: Kernel, patch: pytest.MonkeyPatch, *argv: str) -> int:
    patch.setattr("vfio_hooks.places.Places.host", lambda places: host)
    patch.setattr("os.geteuid", lambda: 0)
    arguments = parser().parse_args(["verify", "win", "--seconds", "0", *argv])
    return int(arguments.run(arguments))


def test_the_verb_prints_a_verdict_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(a_host(), monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok    vCPU 0: may use CPUs 2, ran on 2"
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
        "text": "may use CPUs 2, ran on 2",
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
