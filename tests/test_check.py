"""`vfio-hooks check`: how findings are told to people and programs, and how they are silenced."""

import os
import re
import tempfile
from pathlib import Path

import pytest

from manual.make import items
from tests.command import Command
from tests.hosttree import add_cpus, domain_xml
from tests.test_manual import plain
from vfio_hooks.check import FIRST_RANK, RETIRED, Finding, examine, rules
from vfio_hooks.check.rule import Patient, Rule, Seen, rule
from vfio_hooks.cli import findings
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths
from vfio_hooks.plugins import BUILT_IN

PIECES = items("vfio-hooks-check.7")


def test_advice_is_given_by_findings_and_verbs_that_there_are() -> None:
    """The page goes through two documents, and says of each piece which findings are about it."""
    assert len(PIECES) > 90
    named = {name for _, text in PIECES for name in re.findall(r"`([^`]+)`", text)}
    assert named - {one.name for one in rules()} == {
        f"vfio-hooks {verb}" for verb in ("desktop", "iommu", "topology", "verify", "why")
    }


def test_tables_that_advice_names_are_there() -> None:
    told = " ".join([*(one.why for one in rules()), *(text for _, text in PIECES)])
    assert set(re.findall(r"\[+([a-z]+)\]+", told)) <= set(BUILT_IN)


def names(found: list[Finding]) -> set[str]:
    return {finding.rule.name for finding in found}


@pytest.mark.parametrize("one", rules(), ids=lambda one: one.name)
def test_a_rule_is_told_in_the_manual(one: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", one.name)
    assert one.why.endswith(".")
    assert one.source
    assert f"{one.name} (" in plain("vfio-hooks-check.7")


def test_the_first_rank_is_of_rules_that_cost_or_stop() -> None:
    known = {one.name: one for one in rules()}
    assert len(set(FIRST_RANK)) == len(FIRST_RANK)
    assert all(known[name].level != "hint" for name in FIRST_RANK)
    assert all(name in plain("vfio-hooks-check.7") for name in FIRST_RANK)


def test_names_are_unique() -> None:
    assert len({one.name for one in rules()}) == len(rules())


def test_what_cannot_be_looked_at_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(error: Exception) -> Rule:
        def look(patient: Patient) -> list[Seen]:
            raise error

        return rule("broken", "host", "error", why="Why.", source="a test")(look)

    errors = (
        OSError(13, "Permission denied", "/proc/x"),
        ValueError("'x' is no number"),
        IndexError("list index out of range"),
        HookError("no CPU", "look again"),
    )
    made = tuple(map(failing, errors))
    monkeypatch.setattr("vfio_hooks.check.rules", lambda: made)
    found = examine(Patient(Host("/nonexistent"), Paths()))
    assert [finding.level for finding in found] == ["hint"] * 4
    assert found[0].seen.text == "this could not be looked at: /proc/x: Permission denied"
    assert "'x' is no number" in found[1].seen.text
    assert found[3].seen.text.endswith(": no CPU")


def test_what_only_root_sees_is_told_once(command: Command) -> None:
    """If several rules could not look for the same reason, the reason is shown once."""
    if os.geteuid():
        pytest.skip("root can read everything, and only root can take a folder away from it")
    # What is imported by then need not be readable: a clone below root's home is root's alone.
    command.here("check")
    command.hooks.chmod(0)
    for path in (command.hooks.parent, *command.hooks.parents):
        if str(path).startswith(tempfile.gettempdir() + "/"):
            path.chmod(path.stat().st_mode | 0o755)
    os.seteuid(65534)
    try:
        told = command.here("check")
    finally:
        os.seteuid(0)
        command.hooks.chmod(0o755)
    assert told.out.count("only root can look at this") == 1
    assert "hook-missing, config-unsafe" in told.out


def test_worst_first_and_by_area(monkeypatch: pytest.MonkeyPatch) -> None:
    def made(name: str, area: str, level: str) -> Rule:
        return Rule(name, area, level, "Why.", "a test", lambda _: [Seen("x", "y")])  # type: ignore[arg-type]

    unordered = (
        made("a", "hook", "error"),
        made("b", "host", "hint"),
        made("c", "host", "error"),
        made("d", "domain", "error"),
        made("e", "host", "warning"),
    )
    monkeypatch.setattr("vfio_hooks.check.rules", lambda: unordered)
    found = examine(Patient(Host("/nonexistent"), Paths()), {"e"})
    assert [finding.rule.name for finding in found] == ["c", "a", "b"]


def test_people_and_programs_are_told_the_same(command: Command) -> None:
    for entry in (command.host / "sys/kernel/iommu_groups").iterdir():
        entry.rename(command.host / entry.name)
    told = command.here("check", "--why")
    assert told.code == 1
    assert told.err == ""
    assert all(len(line) <= 100 for line in told.out.splitlines())
    found = command.here("check", "--json").json
    assert "iommu-off" in [one["name"] for one in found["findings"]]
    for one in found["findings"]:
        assert set(one) == {
            *("name", "area", "level", "sure", "text", "why", "source", "do", "fixable")
        }
        blank = " ".join(told.out.split())
        for key in ("name", "text", "why", "source", "do"):
            assert " ".join(one[key].split()) in blank


def test_a_domain_is_told_what_only_its_guest_can_see(command: Command) -> None:
    short = command.here("check", "--xml", "-", stdin=domain_xml()).out
    assert "and what to look for in the guest" in short
    assert "why: " not in short
    told = command.here("check", "--why", "--xml", "-", stdin=domain_xml())
    assert "In the guest" in told.out
    assert "In the guest" not in command.here("check", "--why").out
    nothing = domain_xml(functions=("0000:05:00.0",))
    assert "In the guest" not in command.here("check", "--why", "--xml", "-", stdin=nothing).out
    assert command.here("check", "--xml", "-", "--json", stdin=nothing).json["guest"] == []
    listed = command.here("check", "--json", "--xml", "-", stdin=domain_xml()).json["guest"]
    assert all(" ".join(one.split()) in " ".join(told.out.split()) for one in listed)
    assert len(listed) > 3
    other = command.here("check", "win10", "--xml", "-", stdin=domain_xml())
    assert (other.code, other.err) == (1, "vfio-hooks: the XML is of win11, not of win10\n")


def test_the_other_vms_are_those_that_are_defined(command: Command) -> None:
    add_cpus(command.host)
    folder = command.host / "etc/libvirt/qemu"
    folder.mkdir(parents=True)
    pins = "<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='4'/></cputune>"
    (folder / "win11.xml").write_text(domain_xml(more=pins))
    assert "vm-shares" not in command.here("check", "win11").out
    other = domain_xml("linux", "00000000-7c5e-4d0f-9a55-3f1d2a9a7c11", (), more=pins)
    (folder / "linux.xml").write_text(other)
    told = " ".join(command.here("check", "win11").out.split())
    assert "its vCPUs share CPU 4 with the vCPUs of linux" in told


def test_a_service_that_the_vm_stops_is_no_rival(command: Command) -> None:
    (command.host / "sys/fs/cgroup/system.slice/tuned.service").mkdir(parents=True)
    (command.host / "etc/libvirt/qemu").mkdir(parents=True)
    (command.host / "etc/libvirt/qemu/win11.xml").write_text(domain_xml())
    folder = command.hooks / "qemu.d/win11"
    folder.mkdir(parents=True)
    cups = '[[service]]\nunit = "cups"\n'
    for more, is_told in (
        ("", True),
        ('[[service]]\nunit = "tuned"\naction = "restart"\n', True),
        ('[[service]]\nunit = "tuned"\n', False),
    ):
        (folder / "vm.toml").write_text(f"[governor]\n{more}{cups}")
        assert ("governor-rivals" in command.here("check", "win11").out) == is_told


def test_who_does_what_can_be_fixed_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "win11.xml").write_text(domain_xml())
    words = "check", "--xml", str(tmp_path / "win11.xml")
    count = sum(one["fixable"] for one in command.here(*words, "--json").json["findings"])
    assert count
    told = command.here(*words)
    assert told.out.splitlines()[-1] == f"{count} of these: the same command with --fix"
    assert "--fix" not in command.here("check", "--xml", "-", stdin=domain_xml()).out
    assert "--fix" not in command.here("check").out


def test_a_command_is_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    command = "sudo vfio-hooks init 'a name of several words' " + " ".join(["--config-dir ./x"] * 5)
    prose = "A sentence that is long enough. " * 5
    finding = Finding(
        rule("a", "host", "hint", why="Why.", source="a test")(lambda _: ()),
        Seen("Text.", f"{command}\n{prose}"),
        "hint",
    )
    findings.show([finding], ())
    lines = capsys.readouterr().out.splitlines()
    assert f"        do:  {command}" in lines
    assert all(len(line) <= 100 for line in lines if command not in line)


def test_names_that_are_no_more_may_still_be_silenced(command: Command) -> None:
    command.manage("win11", '[pci]\n\n[check]\nsilence = ["hyperv-ipi", "clock-tsc"]\n')
    assert command.here("validate", "win11").code == 0
    assert not RETIRED & {one.name for one in rules()}


@pytest.mark.parametrize("file", ["vfio-hooks.toml", "qemu.d/win11/vm.toml"])
def test_a_finding_can_be_silenced(command: Command, file: str) -> None:
    for entry in (command.host / "sys/kernel/iommu_groups").iterdir():
        entry.rename(command.host / entry.name)
    command.manage("win11", "[pci]\n")
    (command.hooks / file).write_text('[check]\nsilence = ["iommu-off"]\n')
    told = command.here("check", "--xml", "-", "--json", stdin=domain_xml()).json
    assert told["silenced"] == ["iommu-off"]
    assert "iommu-off" not in [one["name"] for one in told["findings"]]
    told = command.here("check", "--json").json
    assert told["silenced"] == (["iommu-off"] if file == "vfio-hooks.toml" else [])
    assert command.here("validate", "win11").code == 0


def test_the_configuration_of_another_root_is_there(command: Command) -> None:
    hooks = command.host / "etc/libvirt/hooks/qemu.d/win11"
    hooks.mkdir(parents=True)
    (hooks / "vm.toml").write_text('[governor]\n[check]\nsilence = ["iommu-off"]\n')
    (command.host / "etc/libvirt/hooks/vfio-hooks.toml").write_text(
        '[check]\nsilence = ["kvm-off"]\n'
    )
    at = ("--root", str(command.host), "--state-dir", str(command.state), "--json")
    told = command("check", "--xml", "-", *at, stdin=domain_xml()).json
    assert told["silenced"] == ["iommu-off", "kvm-off"]
    assert command("check", *at).json["silenced"] == ["kvm-off"]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('silence = ["iommu-of"]', "did you mean iommu-off? man vfio-hooks-check lists them all"),
        ("silence = 3", "silence in [check] must be a list of strings, not 3"),
        ("silent = []", 'unknown key "silent" in [check]; did you mean silence?'),
    ],
)
def test_a_wrong_silence_is_told_with_its_line(command: Command, toml: str, said: str) -> None:
    command.manage("win11", f"[pci]\n\n[check]\n{toml}\n")
    told = command.here("validate", "win11")
    assert told.code == 1
    assert "win11/vm.toml:4: " in told.err
    assert said in told.err


def test_what_keeps_the_vm_from_starting_comes_first(command: Command) -> None:
    off = domain_xml().replace(" id='3'", "")
    command.manage("win11", "[cpus]\n[governor]\n")
    found = command.here("check", "--xml", "-", "--json", stdin=off).json["findings"]
    assert found[0]["name"] == "start-refused"
    assert "governor: this host has no CPU frequency control" in found[0]["text"]
    command.manage("win11", "[pci]\n")
    found = command.here("check", "--xml", "-", "--json", stdin=off).json["findings"]
    assert "start-refused" not in [one["name"] for one in found]


def test_of_a_device_that_is_not_there_one_error_is_enough(command: Command) -> None:
    command.manage("win11", "[pci]\n")
    gone = domain_xml(functions=("0000:77:00.0",)).replace(" id='3'", "")
    found = command.here("check", "--xml", "-", "--json", stdin=gone).json["findings"]
    errors = [one["name"] for one in found if "0000:77:00.0" in one["text"]]
    assert errors == ["device-absent"]


def test_silencing_is_no_facility(command: Command) -> None:
    command.manage("win11", '[check]\nsilence = ["iommu-off"]\n')
    assert "nothing is done for this VM" in command.here("validate", "win11").out
    command.manage("win11", "check = 3\n")
    assert "check must be a table, [check], not 3" in command.here("validate", "win11").err


def test_long_advice_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    known = {rule.name: rule for rule in rules()}

    def one(name: str, text: str, do: str) -> Finding:
        return Finding(known[name], Seen(text, do), known[name].level)

    long = "sudo vfio-hooks init a --pins\nIt pins them."
    findings.show(
        [
            one("pins-all", "all", long),
            one("pins-cpu-0", "first", long),
            one("pins-wide", "wide", "sudo short"),
            one("machine-sleep", "sleep", "sudo short"),
        ],
        (),
    )
    told = capsys.readouterr().out
    assert told.count("It pins them.") == 1
    assert "do:  the same as for pins-all\n" in told
    assert told.count("do:  sudo short\n") == 2
