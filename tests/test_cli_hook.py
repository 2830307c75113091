"""vfio-hooks hook: libvirt's events by hand."""

import pytest

from tests.command import UUID, Command
from tests.hosttree import domain_xml

pytestmark = pytest.mark.real_processes


def test_prepare_and_release(command: Command) -> None:
    command.manage("win11")
    result = command.here("hook", "win11", "prepare", "begin", "-", stdin=domain_xml())
    assert (result.code, result.err) == (0, "")
    assert result.out.splitlines() == [
        "win11: prepare",
        "win11: pci: /sys/bus/pci/devices/0000:04:00.0/driver: amdgpu → vfio-pci (by libvirt)",
        "win11: pci: /sys/bus/pci/devices/0000:04:00.1/driver: snd_hda_intel "
        "→ vfio-pci (by libvirt)",
        "win11: pci: /sys/bus/pci/devices/0000:04:00.2/driver: xhci_hcd → vfio-pci (by libvirt)",
    ]
    assert (command.state / f"{UUID}.journal").exists()
    result = command.here("hook", "win11", "release", "end", "shutdown", stdin=domain_xml())
    assert (result.code, result.out) == (0, "win11: release (shutdown)\n")
    assert not (command.state / f"{UUID}.journal").exists()


def test_a_dry_run_is_the_plan_of_one_event(command: Command) -> None:
    command.manage("win11")
    xml = domain_xml(managed="no")
    result = command.here("hook", "win11", "prepare", "begin", "-", "--dry-run", stdin=xml)
    assert (result.code, result.err) == (0, "")
    assert not command.state.exists()
    plan = command.here("plan", "--xml", "-", stdin=xml).out
    assert result.out == plan
    nothing = command.here("hook", "win11", "start", "begin", "-", "--dry-run", stdin=xml)
    assert nothing.out == f"win11 ({UUID})\n\nchanges nothing\n"


@pytest.mark.parametrize("op", ["prepare", "release"])
def test_a_name_with_a_dash_comes_after_two(command: Command, op: str) -> None:
    command.manage("-rf")
    xml = domain_xml(name="-rf")
    result = command.here("hook", "--dry-run", "--", "-rf", op, "begin", "-", stdin=xml)
    assert (result.code, result.err) == (0, "")
    assert "-rf" in result.out


def test_a_failure_is_one_line(command: Command) -> None:
    command.manage("win11", "[pci]\ntimeout = 0x\n")
    for more in ([], ["--dry-run"]):
        result = command.here("hook", "win11", "prepare", "begin", "-", *more, stdin=domain_xml())
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("vfio-hooks: HOOKS/qemu.d/win11/vm.toml:2: not valid TOML: ")
        assert result.err.count("\n") == 1


@pytest.mark.parametrize("op", ["reconnect", "migrate", "attach", "novelty"])
def test_all_other_events_do_nothing(command: Command, op: str) -> None:
    command.manage("win11")
    result = command.here("hook", "win11", op, "begin", "-")
    assert (result.code, result.out, result.err) == (0, "", "")
    result = command.here("hook", "win11", op, "begin", "-", "--dry-run")
    assert (result.code, result.out, result.err) == (0, f"nothing is done at {op}\n", "")


@pytest.mark.parametrize("op", ["prepare", "reconnect", "release"])
def test_a_dry_run_names_executables_and_runs_none(command: Command, op: str) -> None:
    script = command.manage("win11").parent / op / "begin"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch {command.hooks}/ran\n")
    script.chmod(0o755)
    argv = ("hook", "win11", op, "begin", "-")
    result = command.here(*argv, "--dry-run", stdin=domain_xml())
    assert (result.code, result.err) == (0, "")
    runs = f"{op} runs HOOKS/qemu.d/win11/{op}/begin"
    if op == "release":
        undoes = "release undoes what `vfio-hooks status win11` shows"
        assert result.out.splitlines() == [undoes, runs]
    elif op == "reconnect":
        assert result.out.splitlines() == [runs]
    else:
        assert f"  runs HOOKS/qemu.d/win11/{op}/begin" in result.out
    assert not (command.hooks / "ran").exists()
    assert command.here(*argv, stdin=domain_xml()).code == 0
    assert (command.hooks / "ran").exists()


def test_a_dry_run_of_the_end(command: Command) -> None:
    command.manage("win11")
    result = command.here("hook", "win11", "stopped", "end", "-", "--dry-run")
    assert result.out == "stopped undoes what `vfio-hooks status win11` shows\n"


def test_a_vm_that_is_not_managed_is_left_alone(command: Command) -> None:
    result = command.here("hook", "win11", "prepare", "begin", "-", "--dry-run")
    assert (result.code, result.out) == (0, "win11 is not managed, so nothing is done\n")
    result = command.here("hook", "win11", "prepare", "begin", "-")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert not command.state.exists()
