"""vfio-hooks why: known lines of the logs, where they are read, and what is shown of them."""

import json
import os
import re
import string
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command
from vfio_hooks.cli import why as verb
from vfio_hooks.errors import HookError
from vfio_hooks.why import explain, lines, recognise
from vfio_hooks.why.known import KNOWN, Known
from vfio_hooks.why.lines import Line, kernel_buffer, qemu_log

CORPUS: dict[str, list[str]] = json.loads(
    (Path(__file__).parent / "corpus/why.json").read_text(encoding="utf-8")
)
"""Lines as the named versions print them, by the name of what is known of them."""
HEALTHY = """\
vfio-pci 0000:03:00.0: enabling device (0000 -> 0003)
vfio-pci 0000:03:00.0: vgaarb: deactivate vga console
vfio-pci 0000:03:00.0: resetting
vfio-pci 0000:03:00.0: reset done
vfio-pci 0000:03:00.0: not ready 1023ms after FLR; waiting
vfio-pci 0000:03:00.0: ready 2047ms after FLR
pci 0000:03:00.0: BAR 0 [mem 0xc0000000-0xcfffffff 64bit pref]: assigned
pcieport 0000:00:01.1: AER: enabled with IRQ 26
pcieport 0000:00:05.0: Data Link Layer Link Active not set in 1000 msec
pcieport 0000:00:01.1: AER: device recovery successful
HugeTLB: registered 2.00 MiB page size, pre-allocated 0 pages
DMAR: Intel(R) Virtualization Technology for Directed I/O
AMD-Vi: Interrupt remapping enabled
kvm_amd: Nested Virtualization enabled
audit: type=1400 audit(1.0:2): apparmor="STATUS" operation="profile_load" name="libvirt-1"
amdgpu 0000:03:00.0: amdgpu: GPU reset(2) succeeded!
amdgpu 0000:03:00.0: amdgpu: GPU reset end with ret = 0
"""


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_each_known_line_is_recognised_and_by_no_other_pattern(known: Known) -> None:
    for text in CORPUS[known.name]:
        assert [one.name for one in KNOWN if re.search(one.pattern, text)] == [known.name]
        told = explain([Line(0, "kernel", text)])[0]
        assert not {"{", "}"} & set(told.meaning + told.remedy)


def test_every_line_of_the_corpus_has_an_explanation() -> None:
    assert list(CORPUS) == [known.name for known in KNOWN]
    assert len(KNOWN) >= 40


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_a_text_names_only_what_its_pattern_finds(known: Known) -> None:
    named = {name for _, name, _, _ in string.Formatter().parse(known.meaning + known.remedy)}
    assert named - {None} <= set(re.compile(known.pattern).groupindex)
    assert known.source


@pytest.mark.parametrize("text", HEALTHY.splitlines())
def test_a_healthy_line_has_no_explanation(text: str) -> None:
    assert recognise(text)[0] is None


def test_the_parts_of_a_line_are_in_its_explanation() -> None:
    text = "vfio: Cannot reset device 0000:03:00.0, depends on group 14 which is not owned."
    told = explain([Line(0, "qemu", text)])[0]
    assert "IOMMU group 14" in told.meaning
    assert told.remedy.startswith("pass the function in group 14")


def test_what_is_shown_of_lines_that_are_not_known() -> None:
    shown = (
        Line(1, "kernel", "xhci_hcd 0000:03:00.2: remove, state 4"),
        Line(2, "kernel", "DMAR: [DMA Write] device [03:00.2] something new"),
        Line(3, "qemu", "char device redirected to /dev/pts/3 (label charserial0)"),
        Line(4, "libvirt", "internal error: something", is_warning=True),
        Line(5, "hook", "governor: no such file", is_warning=True),
    )
    left_out = (
        Line(6, "kernel", "usb 1-4: new high-speed USB device number 5"),
        Line(7, "libvirt", "libvirt version: 11.3.0"),
        Line(8, "hook", "pci: 0000:03:00.2: e1000e → vfio-pci"),
    )
    assert [one.line for one in explain(shown + left_out, ["0000:03:00.2"])] == list(shown)


def test_a_line_that_comes_again_for_the_same_device_is_told_once() -> None:
    text = "vfio_region_write(0000:08:00.{}:region1+0x{}, 0x1,8) failed: Device or resource busy"
    said = [Line(n, "qemu", text.format(n % 2, n)) for n in range(10)]
    assert [(one.line.time, one.count) for one in explain(said)] == [(0, 5), (1, 5)]


QEMU = """\
2026-11-28 20:00:00.000+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.13
LC_ALL=C \\
/usr/bin/qemu-system-x86_64 \\
-name guest=win11
2026-11-28T20:00:09.500000Z qemu-system-x86_64: an old line
2026-11-29 20:00:00.250+0000: starting up libvirt version: 11.3.0, qemu version: 10.0.13
LC_ALL=C \\
/usr/bin/qemu-system-x86_64 \\
-name guest=win11 \\
-msg timestamp=on
2026-11-29T20:00:01.500000Z qemu-system-x86_64: vfio: Unable to power on device, stuck in D3
Verify all devices
2026-11-29 20:00:02.000+0000: shutting down, reason=failed
"""
BEGIN = 1_795_982_400.0  # 2026-11-29 20:00:00 UTC


def test_qemus_log_since_its_last_start(tmp_path: Path) -> None:
    (tmp_path / "win11.log").write_text(QEMU)
    found = [(line.time - BEGIN, line.text) for line in qemu_log("win11", str(tmp_path))]
    assert found == [
        (0.25, "starting up libvirt version: 11.3.0, qemu version: 10.0.13"),
        (1.5, "qemu-system-x86_64: vfio: Unable to power on device, stuck in D3"),
        (1.5, "Verify all devices"),
        (2.0, "shutting down, reason=failed"),
    ]


@pytest.mark.parametrize("text", ["", "a line of somebody's\n", None])
def test_a_vm_that_qemu_never_ran(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "win11.log").write_text(text)
    assert qemu_log("win11", str(tmp_path)) == []


LIBVIRT = {"_SYSTEMD_UNIT": "libvirtd.service"}


def entry(text: str, identifier: str = "kernel", **fields: str) -> dict[str, str]:
    """A line of journalctl's."""
    when = str(int(BEGIN * 1_000_000) + 3_000_000)
    transport = "kernel" if identifier == "kernel" else "syslog"
    named = {"SYSLOG_IDENTIFIER": identifier, "_TRANSPORT": transport, "MESSAGE": text}
    own = {} if identifier == "kernel" else {"_UID": "0"}
    return {"__REALTIME_TIMESTAMP": when, "PRIORITY": "4", **named, **own, **fields}


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Has the program read these lines in the systemd journal's place."""
    entries: list[dict[str, str]] = []
    asked: list[list[str]] = []

    def run(argv: list[str], seconds: float) -> str:
        asked.append(argv)
        return "".join(json.dumps(one) + "\n" for one in entries)

    (tmp_path / "win11.log").write_text(QEMU)
    monkeypatch.setattr(lines, "run", run)
    monkeypatch.setattr(lines, "find", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(lines, "kernel_buffer", list)
    monkeypatch.setattr(verb, "qemu_log", lambda vm: qemu_log(vm, str(tmp_path)))
    monkeypatch.setattr(verb, "read", lambda since: "")
    monkeypatch.setattr(verb, "_devices", lambda vm: ["0000:03:00.0"])
    monkeypatch.setenv("TZ", "UTC")
    return entries, asked


def test_a_start_is_explained_in_the_order_of_time(command: Command, journal: Any) -> None:
    entries, asked = journal
    entries += [
        entry("vfio-pci 0000:03:00.0: BAR 0: can't reserve [mem 0xc0000000-0xcfffffff 64bit]"),
        entry("win11: going on without it", "vfio-hooks", VFIO_HOOKS_VM="win11"),
        entry("other: going on", "vfio-hooks", VFIO_HOOKS_VM="other"),
        entry("win11: forged", "vfio-hooks", VFIO_HOOKS_VM="win11", _UID="1000"),
        entry("usb 1-4: something else"),
        # As libvirt writes to the journal by itself.
        entry("PCI device 0000:03:00.0 is in use by driver QEMU, domain b", "", **LIBVIRT),
    ]
    result = command("why", "win11")
    assert (result.code, result.err) == (0, "")
    assert f"--since=@{BEGIN + 0.25:.6f}" in asked[-1]
    heads = [line for line in result.out.splitlines() if line[:2] == "20"]
    assert [line.split(" ", 2)[2] for line in heads] == [
        "qemu    starting up libvirt version: 11.3.0, qemu version: 10.0.13",
        "qemu    qemu-system-x86_64: vfio: Unable to power on device, stuck in D3",
        "qemu    Verify all devices",
        "qemu    shutting down, reason=failed",
        "kernel  vfio-pci 0000:03:00.0: BAR 0: can't reserve [mem 0xc0000000-0xcfffffff 64bit]",
        "hook    going on without it",
        "libvirt PCI device 0000:03:00.0 is in use by driver QEMU, domain b",
    ]
    assert result.out.count("  means: ") == result.out.count("  do:    ") == 3
    assert result.out.endswith("3 lines since the last start of win11 are explained above\n")


def test_programs_get_the_names_of_what_is_known(command: Command, journal: Any) -> None:
    found = json.loads(command("why", "win11", "--json").out)["lines"]
    assert [one["name"] for one in found] == [None, "stuck-in-d3", None, None]
    assert found[1]["printed_by"] == "QEMU 10.0, hw/vfio/pci.c"


def test_a_start_that_was_refused_before_qemu_ran(
    command: Command, journal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = str(int(BEGIN * 1_000_000) + 60_000_000)
    fields = {"VFIO_HOOKS_EVENT": "prepare", "VFIO_HOOKS_EVENT_OF": "win11", "_PID": "7"}
    tags = {"VFIO_HOOKS_VM": "win11", "_UID": "0", "__REALTIME_TIMESTAMP": later, **fields}
    past = json.dumps({"MESSAGE": "win11: prepare", **tags})
    monkeypatch.setattr(verb, "read", lambda since: past + "\n")
    result = command("why", "win11")
    assert "stuck in D3" not in result.out
    assert result.out == ("no line since the last start of win11 is a known fault\n")


def test_without_a_vm_both_boots_are_explained(command: Command, journal: Any) -> None:
    entries, asked = journal
    entries += [entry("tsc: Marking TSC unstable due to clocksource watchdog"), entry("healthy")]
    result = command("why")
    assert [argv[-4] for argv in asked] == ["--boot=-1", "--boot=0"]
    assert result.out.count("Marking TSC unstable") == 2
    assert "healthy" not in result.out
    assert result.out.endswith("2 lines of this boot and the last one are explained above\n")


def test_what_virsh_said_is_explained(command: Command) -> None:
    said = "error: PCI device 0000:05:00.0 is in use by driver QEMU, domain b\n"
    result = command("why", "--file", "-", stdin=f"error: Failed to start domain 'a'\n{said}")
    assert (result.code, result.err) == (0, "")
    assert "means: The VM b has 0000:05:00.0." in result.out
    assert result.out.endswith("1 line of this text is explained above\n")
    assert command("why", "--file", "-", stdin="hello\n").out == (
        "no line of this text is a known fault\n"
    )
    assert command("why", "win11", "--file", "-").code == 1


def test_a_vm_that_was_never_started(command: Command, journal: Any) -> None:
    result = command("why", "win12")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("vfio-hooks: the logs do not go back to a start of win12; ")


def test_a_journal_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: list[str], seconds: float) -> str:
        raise HookError("journalctl: exit code 1")

    monkeypatch.setattr(lines, "run", refuse)
    monkeypatch.setattr(lines, "find", lambda name: name)
    assert lines.of_boot(-1) == []
    with pytest.raises(HookError, match="the systemd journal cannot be read"):
        lines.of_boot(0)


def test_without_journald_the_kernels_buffer_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Line(BEGIN, "kernel", "a line")
    monkeypatch.setattr(lines, "find", lambda name: None)
    monkeypatch.setattr(lines, "kernel_buffer", lambda: [seen])
    assert (lines.of_boot(0), lines.of_boot(-1)) == ([seen], [])
    assert lines.since(BEGIN - 1, "win11") == [seen]
    assert lines.since(BEGIN + 1, "win11") == []


def test_a_journal_without_the_kernels_lines_is_not_taken_for_a_healthy_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As journalctl shows it to somebody who may not read it, and where none is kept."""
    seen = Line(BEGIN, "kernel", "a line")
    monkeypatch.setattr(lines, "find", lambda name: name)
    monkeypatch.setattr(lines, "run", lambda argv, seconds: "")
    monkeypatch.setattr(lines, "kernel_buffer", lambda: [seen])
    assert (lines.of_boot(0), lines.of_boot(-1)) == ([seen], [])
    assert lines.since(BEGIN - 1, "win11") == [seen]
    assert lines.since(BEGIN + 1, "win11") == []


def test_records_of_the_kernels_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [
        b"4,100,2500000,-;vfio-pci 0000:03:00.0: a line\n SUBSYSTEM=pci\n DEVICE=+pci:0000\n",
        b"30,101,2600000,-;systemd[1]: a program's\n",
        b"6,102,2700000,c;another; with a semicolon\n",
    ]

    def read(descriptor: int, size: int) -> bytes:
        if not pieces:
            raise BlockingIOError
        if len(pieces) == 2:
            pieces.insert(0, b"")
            raise BrokenPipeError
        return pieces.pop(0) or pieces.pop(0)

    path = tmp_path / "kmsg"
    assert kernel_buffer(str(path)) == []
    path.touch()
    monkeypatch.setattr(os, "read", read)
    found = kernel_buffer(str(path))
    assert [line.text for line in found] == [
        "vfio-pci 0000:03:00.0: a line",
        "another; with a semicolon",
    ]
    assert round(found[1].time - found[0].time, 3) == 0.2


@pytest.mark.skipif(not os.access(lines.KMSG, os.R_OK), reason="the kernel's log is not readable")
def test_the_kernels_real_buffer_is_read() -> None:
    assert all(line.source == "kernel" and line.text for line in kernel_buffer())
