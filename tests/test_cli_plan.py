"""vfio-hooks plan, on the guide's host."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import UUID, Command, as_nobody, needs_root
from tests.guide.host import guide_host
from tests.hosttree import add_cpus, domain_xml, gpu_host
from vfio_hooks import ENDING, PLANNED
from vfio_hooks.engine import Engine
from vfio_hooks.engine.journal import State
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.host import WritableHost
from vfio_hooks.knobs.file import File
from vfio_hooks.log import SystemdJournal
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
BOUND = f"""\
win11 ({UUID})

prepare
  pci
    /sys/bus/pci/devices/0000:04:00.0/driver: amdgpu → vfio-pci (override vfio-pci)
      undone at release: back to amdgpu, unless another VM or somebody else has it by then
    /sys/bus/pci/devices/0000:04:00.1/driver: snd_hda_intel → vfio-pci (override vfio-pci)
      undone at release: back to snd_hda_intel, unless another VM or somebody else has it by then
    /sys/bus/pci/devices/0000:04:00.2/driver: xhci_hcd → vfio-pci (override vfio-pci)
      undone at release: back to xhci_hcd, unless another VM or somebody else has it by then
"""


def test_every_change_with_its_old_and_new_value_and_its_undo(command: Command) -> None:
    command.manage("win11")
    result = command.here("plan", "--xml", "-", stdin=domain_xml(managed="no"))
    assert (result.code, result.out, result.err) == (0, BOUND, "")


def test_planning_changes_nothing(command: Command) -> None:
    command.manage("win11")
    before = sorted(command.host.parent.rglob("*"))
    command.here("plan", "--xml", "-", stdin=domain_xml(managed="no"))
    assert sorted(command.host.parent.rglob("*")) == before
    assert os.readlink(command.host / "sys/bus/pci/devices/0000:04:00.0/driver").endswith("amdgpu")


def test_what_cannot_be_undone_says_so(command: Command) -> None:
    (command.host / "sys/bus/pci/drivers/vfio-pci").rmdir()
    argv = ("plan", "--xml", "-", "--use", " pci,,")
    result = command.here(*argv, stdin=domain_xml(managed="no"))
    assert result.out.splitlines()[3:6] == [
        "  pci",
        "    /sys/module/vfio_pci: loaded",
        "      cannot be undone: it stays",
    ]


def test_what_libvirt_and_services_do_is_in_words(command: Command) -> None:
    (command.host / "sys/bus/pci/devices/0000:04:00.2/driver_override").write_text("vfio-pci")
    driver = command.host / "sys/bus/pci/devices/0000:04:00.2/driver"
    driver.unlink()
    driver.symlink_to("../../drivers/vfio-pci")
    result = command.here(
        "plan", "--xml", "-", "--use", "session,gpu,pci,verify", stdin=domain_xml()
    )
    assert [
        line.strip() for line in result.out.splitlines() if ":00." in line or "watches" in line
    ] == [
        "0000:04:00.0's device nodes: waits until no program has them open",
        "/sys/bus/pci/devices/0000:04:00.0, when it comes back: amdgpu; "
        "if amdgpu does not take it, it is removed and the bus is rescanned",
        "/sys/bus/pci/devices/0000:04:00.0/driver: amdgpu → vfio-pci (by libvirt)",
        "/sys/bus/pci/devices/0000:04:00.1/driver: snd_hda_intel → vfio-pci (by libvirt)",
        "/sys/bus/pci/devices/0000:04:00.2/driver: vfio-pci (override vfio-pci) (stays)",
        f"vfio-hooks-verify-{UUID}.service: watches for 30 s whether anything disturbs the VM",
    ]
    assert "nothing to undo" in result.out
    assert "undone at stopped: the service is stopped" in result.out
    assert "\nstart\n" not in result.out


def test_nothing_to_do_is_one_line_and_why(command: Command) -> None:
    none = domain_xml(functions=())
    result = command.here("plan", "--xml", "-", "--use", "pci", stdin=none)
    note = "pci: win11 is given no PCI device; add one: virt-manager, Add Hardware, PCI Host Device"
    assert (result.code, result.err) == (0, "")
    assert result.out == f"win11 ({UUID})\nnote: {note}\n\nchanges nothing\n"
    found = command.here("plan", "--xml", "-", "--use", "pci", "--json", stdin=none).json
    assert found["notes"] == [note]
    assert [event["event"] for event in found["events"]] == [*PLANNED, *ENDING]


def test_json_has_the_same(command: Command) -> None:
    (command.host / "sys/bus/pci/drivers/vfio-pci").rmdir()
    xml = domain_xml(managed="no", name="a b")
    found = command.here("plan", "--xml", "-", "--use", "pci", "--json", stdin=xml).json
    assert {name: found[name] for name in ("vm", "uuid", "notes")} == {
        "vm": "a b",
        "uuid": UUID,
        "notes": [],
    }
    assert [event["event"] for event in found["events"]] == [*PLANNED, *ENDING]
    assert found["events"][0]["changes"][:2] == [
        {
            "plugin": "pci",
            "key": "/sys/module/vfio_pci",
            "share": "once",
            "old": None,
            "new": "loaded",
            "text": "/sys/module/vfio_pci: loaded",
            "undone_at": None,
            "undo": None,
        },
        {
            "plugin": "pci",
            "key": "/sys/bus/pci/devices/0000:04:00.0/driver",
            "share": "exclusive",
            "old": "amdgpu",
            "new": "vfio-pci (override vfio-pci)",
            "text": "/sys/bus/pci/devices/0000:04:00.0/driver: "
            "amdgpu → vfio-pci (override vfio-pci)",
            "undone_at": "release",
            "undo": "back to amdgpu, unless another VM or somebody else has it by then",
        },
    ]
    assert found["events"][1]["changes"] == []


ALONE = domain_xml(functions=("0000:04:00.0",))
IN_THE_WAY = (
    "pci: IOMMU group 7 cannot be passed through while the host uses 0000:04:00.1 "
    "(snd_hda_intel, 1002:ab28), 0000:04:00.2 (xhci_hcd, 1002:73a6); add them to the domain as "
    '<hostdev>, or set group = "bind" in [pci]'
)


def test_a_start_that_would_fail_is_a_failure(command: Command) -> None:
    result = command.here("plan", "--xml", "-", "--use", "pci", stdin=ALONE)
    assert (result.code, result.err) == (1, f"vfio-hooks: prepare would fail: {IN_THE_WAY}\n")
    assert result.out == f"win11 ({UUID})\n\nprepare\n  would fail, and change nothing\n"


def test_a_failure_is_in_the_json_too(command: Command) -> None:
    result = command.here("plan", "--xml", "-", "--use", "pci", "--json", stdin=ALONE)
    assert result.code == 1
    why = {"failure": IN_THE_WAY, "failures": [IN_THE_WAY]}
    assert result.json["events"] == [{"event": "prepare", **why, "runs": [], "changes": []}]


NO_CARD = domain_xml(functions=("0000:05:00.0",))
WRONG = (
    "session: domain win11 is given no graphics card of this host; "
    "add it as <hostdev> (virsh edit), or remove [session] from vm.toml",
    "hugepages: domain win11 does not ask for hugepages; add <memoryBacking><hugepages/>"
    "</memoryBacking> to it (virsh edit), or remove [hugepages] from vm.toml",
    "cpus: domain win11 pins no vCPU, so it has no CPUs to itself; "
    "sudo vfio-hooks init win11 --pins chooses CPUs for them",
)


def test_every_table_that_cannot_be_planned_is_told(command: Command) -> None:
    command.manage("win11", "[pci]\n[session]\n[hugepages]\n[cpus]\n")
    result = command.here("plan", "--xml", "-", stdin=NO_CARD)
    lines = [f"vfio-hooks: prepare would fail: {failure}" for failure in WRONG]
    assert (result.code, result.err.splitlines()) == (1, lines)
    found = command.here("plan", "--xml", "-", "--json", stdin=NO_CARD).json["events"][0]
    assert found["failures"] == [*WRONG]
    started = command.here("hook", "win11", "prepare", "begin", "-", stdin=NO_CARD)
    assert (started.code, started.err) == (1, f"vfio-hooks: {'; also: '.join(WRONG)}\n")


def test_a_value_that_is_not_there_is_told_with_its_table(command: Command) -> None:
    command.manage("win11", '[pci]\n[gpu]\nreset_method = "bus"\nd3cold = false\n[memory]\nksm=0')
    with_memory = command.here("plan", "--xml", "-", stdin=domain_xml())
    (command.host / "sys/kernel/mm/ksm").mkdir(parents=True)
    (command.host / "sys/kernel/mm/ksm/run").touch()
    result = command.here("plan", "--xml", "-", stdin=domain_xml())
    assert [line.split("; ")[0] for line in (with_memory.err + result.err).splitlines()] == [
        "vfio-hooks: prepare would fail: memory: this kernel has no ksm (/sys/kernel/mm/ksm/run)",
        "vfio-hooks: prepare would fail: "
        "gpu: /sys/bus/pci/devices/0000:04:00.0/d3cold_allowed: no such file on this host",
    ]
    assert result.err.endswith(
        "; correct [gpu], or set required = false in it to start the VM without it\n"
    )


def test_the_vms_own_options_are_used(command: Command) -> None:
    command.manage("win11", '[pci]\ngroup = "bind"\n')
    result = command.here("plan", "--xml", "-", stdin=ALONE)
    assert result.code == 0
    assert "0000:04:00.1/driver: snd_hda_intel → vfio-pci" in result.out


@pytest.mark.parametrize("vm", ["-rf", 'it\'s "mine"', ".hidden", "a b", "ä→"])
def test_odd_names(command: Command, vm: str) -> None:
    command.manage(vm)
    name = vm.replace("'", "&apos;").replace('"', "&quot;")
    xml = domain_xml(name=name)
    result = command.here("plan", "--xml", "-", "--", vm, stdin=xml)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{vm} (")


@pytest.mark.parametrize(
    ("argv", "stdin", "error"),
    [
        ([], "", "which VM? give its name, or its XML with --xml FILE"),
        (["--xml", "/no/such"], "", "/no/such: cannot be read: No such file or directory"),
        (["--xml", "-"], "", "standard input: the domain XML cannot be read: no element found*"),
        (["--xml", "-"], "<network/>", "standard input: the XML is a <network>, not a <domain>"),
        (["--xml", "-", "w"], domain_xml(), "the XML is of win11, not of w"),
        (
            ["--xml", "-"],
            domain_xml(),
            "win11 is not managed: there is no folder HOOKS/qemu.d/win11; "
            "make that folder, or try --use pci",
        ),
        (
            ["--xml", "-"],
            domain_xml("a"),
            "a is not managed: there is no folder HOOKS/qemu.d/a; did you mean A? "
            "make that folder, or try --use pci",
        ),
        (["--xml", "-", "--use", "pcie"], domain_xml(), "no facility 'pcie'; did you mean pci?*"),
        (
            ["a b"],
            "",
            "there is no domain a b; make the snapshot with --vm 'a b', or give the XML with "
            "--xml FILE",
        ),
    ],
)
def test_failures_are_one_line(command: Command, argv: list[str], stdin: str, error: str) -> None:
    command.manage("A")
    result = command.here("plan", *argv, stdin=stdin)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("\n") == 1
    told = result.err.removeprefix("vfio-hooks: ").rstrip("\n")
    assert told.startswith(error[:-1]) if error.endswith("*") else told == error


def test_a_file_that_is_no_domain_is_named_by_every_verb(command: Command) -> None:
    file = command.host.parent / "broken.xml"
    file.write_text(domain_xml().replace("</name>", ""))
    for verb in ("plan", "check", "init", "topology", "iommu"):
        result = command.here(verb, "--xml", str(file))
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        told = f"vfio-hooks: {file}: the domain XML cannot be read: mismatched tag"
        assert result.err.startswith(told)
        assert "<string>" not in result.err


@pytest.mark.parametrize("vm", ["test", "6695EB01-f6a4-8304-79aa-97f2502e193f"])
def test_libvirt_is_asked_by_name_or_uuid(command: Command, vm: str) -> None:
    pytest.importorskip("libvirt")
    argv = "plan", "--state-dir", str(command.state), "--use", "pci"
    result = command(*argv, "--connect", "test:///default", vm)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("test (6695eb01-f6a4-8304-79aa-97f2502e193f)\n")
    told = command(*argv, "--connect", "test:///default", "tset").err
    assert told == "vfio-hooks: libvirt knows no domain tset; did you mean test?\n"


def test_a_libvirt_that_does_not_answer(command: Command) -> None:
    pytest.importorskip("libvirt")
    for verb in ("plan", "check", "init", "topology"):
        result = command(verb, "win11", "--connect", "qemu+unix:///system?socket=/no/such")
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
        assert "; systemctl start libvirtd.socket" in result.err
        assert result.err.count("--xml FILE") == 1


def hold(command: Command, uuid: str, vm: str) -> None:
    """Let a VM hold a value of the host."""
    (command.host / "knob").write_text("old\n")
    engine = Engine(
        WritableHost(str(command.host)), StateFolder(str(command.state)), SystemdJournal("/no")
    )
    engine.perform("prepare", uuid, vm, lambda _: [Step("test", File("/knob"), Override("new"))])


def executable(command: Command, name: str) -> Path:
    """Give win11 an executable of its own."""
    script = command.manage("win11").parent / name
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


def test_the_vms_own_executables_are_named(command: Command) -> None:
    executable(command, "prepare/begin/10-first")
    executable(command, "release/end")
    lines = command.here("plan", "--xml", "-", stdin=domain_xml()).out.splitlines()
    runs = "  runs HOOKS/qemu.d/win11/prepare/begin/10-first: it has to undo its own changes"
    assert lines[2:5] == ["prepare", runs, "  pci"]
    assert lines[-3:] == ["", "release", "  runs HOOKS/qemu.d/win11/release/end"]
    found = command.here("plan", "--xml", "-", "--json", stdin=domain_xml()).json["events"]
    scripts = [[], [], [], ["HOOKS/qemu.d/win11/release/end"]]
    assert [event["runs"] for event in found][1:] == scripts


def test_an_executable_that_others_may_write_fails_the_plan(command: Command) -> None:
    executable(command, "start/begin/x").chmod(0o777)
    result = command.here("plan", "--xml", "-", stdin=domain_xml())
    assert result.code == 1
    assert result.out.endswith("\nstart\n  would fail, and change nothing\n")
    assert result.err.startswith(
        "vfio-hooks: start would fail: HOOKS/qemu.d/win11/start/begin/x: users other than its owner"
    )


def test_what_the_vm_can_do_without_is_a_note(command: Command) -> None:
    command.manage("win11", "[pci]\nrequired = false\n")
    result = command.here("plan", "--xml", "-", stdin=ALONE)
    assert (result.code, result.err) == (0, "")
    assert (
        result.out.splitlines()[1]
        == f"note: win11: going on without [pci]: {IN_THE_WAY.removeprefix('pci: ')}"
    )


OWN = """
from vfio_hooks.knobs import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

def plan(event, domain, options, host):
    value = {"prepare": "a", "started": "b"}.get(event.op)
    if value:
        yield Step("own", File("/knob"), Override(value))
"""


def test_an_event_goes_on_from_where_those_before_it_end(command: Command) -> None:
    (command.host / "knob").write_text("old\n")
    (command.manage("win11", "").parent / "own.py").write_text(OWN)
    result = command.here("plan", "--xml", "-", stdin=domain_xml())
    assert (result.code, result.err) == (0, "")
    assert [line for line in result.out.splitlines() if "/knob" in line] == [
        "    /knob: old → a",
        "    /knob: a → b",
    ]


def test_what_another_vm_has_fails_the_plan(command: Command) -> None:
    command.manage("win11")
    command.manage("b")
    command.here("hook", "win11", "prepare", "begin", "-", stdin=domain_xml())
    other = domain_xml(name="b", uuid="00000000-0000-0000-0000-00000000000b")
    result = command.here("plan", "--xml", "-", stdin=other)
    assert (result.code, result.err) == (
        1,
        "vfio-hooks: prepare would fail: 0000:04:00.0: VM win11 has it; "
        "shut down win11; if it is not running: vfio-hooks undo win11\n",
    )


def test_notes_tell_what_the_plan_stands_on(command: Command) -> None:
    command.manage("win11", "dry_run = true\n[pci]\n")
    hold(command, UUID, "win11")
    result = command.here("plan", "--xml", "-", stdin=domain_xml())
    assert result.out.splitlines()[1:3] == [
        "note: dry_run is on: libvirt's events only log this plan",
        f"note: win11 has changes in place, which its start would undo first: vfio-hooks status "
        f"{UUID}",
    ]


def test_what_waits_for_cpus_is_no_run_that_was_never_undone(command: Command) -> None:
    command.manage("win11")
    hold(command, UUID, "win11")
    journal = StateFolder(str(command.state)).load(UUID)
    journal.begin("release", 2)
    journal.mark(journal.live()[0], State.WAITING, "7")
    journal.end()
    result = command.here("plan", "--xml", "-", stdin=domain_xml())
    assert (result.code, "has changes in place" in result.out) == (0, False)


def test_what_was_cut_off_does_not_fail_the_plan_as_it_does_not_the_start(command: Command) -> None:
    for vm in ("win11", "b"):
        command.manage(vm)
    other = domain_xml(name="b", uuid="00000000-0000-0000-0000-00000000000b")
    command.here("hook", "b", "prepare", "begin", "-", stdin=other)
    (journal,) = command.state.glob("*.journal")
    *lines, end = journal.read_text().splitlines(keepends=True)
    assert '"end"' in end
    journal.write_text("".join(lines))
    result = command.here("plan", "--xml", "-", stdin=domain_xml())
    assert result.code == 0
    assert "note: prepare of b is being handled now, or was cut off; a start would" in result.out
    assert "amdgpu → vfio-pci (by libvirt)" in result.out


TABLES = """
[gpu]
[pci]
[hugepages]
reuse = true
[irqs]
vectors = false
[governor]
governor = "performance"
"""
LOUDER = """
from vfio_hooks.knobs import Console, File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

def plan(event, domain, options, host):
    if event.op == "prepare":
        yield Step("louder", File("/knob"), Override(host.read("/knob") + "!"))
        yield Step("louder", Console(), Override("unbound"))
"""
DOMAINS = Path(__file__).parent / "domains"


def texts(folder: Path) -> dict[Path, str]:
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("has_other", [False, True])
def test_a_start_that_undoes_the_last_run_first_is_planned_as_if_that_were_done(
    command: Command, tmp_path: Path, has_other: bool
) -> None:
    command.host = guide_host(tmp_path / "guide")
    (command.manage("good", TABLES).parent / "louder.py").write_text(LOUDER)
    console = command.host / "sys/class/vtconsole/vtcon1"
    console.mkdir(parents=True, exist_ok=True)
    (console / "name").write_text("(M) frame buffer device\n")
    (console / "bind").write_text("1\n")
    (command.host / "knob").write_text("old\n")
    xml = (DOMAINS / "good.xml").read_text()
    if has_other:
        command.manage("b", '[governor]\ngovernor = "schedutil"\n[irqs]\n')
        other = domain_xml(
            "b", more="<vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='8'/></cputune>"
        )
        assert command.here("hook", "b", "prepare", "begin", "-", stdin=other).code == 0
    first = command.here("plan", "--xml", "-", "--json", stdin=xml)
    assert (first.code, first.err, first.json["notes"]) == (0, "", [])
    assert command.here("hook", "good", "prepare", "begin", "-", stdin=xml).code == 0
    # What libvirt and the kernel do.
    (pool,) = command.host.glob("sys/devices/system/node/node1/hugepages/hugepages-2048kB")
    (pool / "free_hugepages").write_text((pool / "nr_hugepages").read_text())
    for address in ("0000:45:00.0", "0000:45:00.1", "0000:07:10.1"):
        driver = command.host / f"sys/bus/pci/devices/{address}/driver"
        driver.unlink()
        driver.symlink_to("../../../../bus/pci/drivers/vfio-pci")
    before = texts(tmp_path)
    again = command.here("plan", "--xml", "-", "--json", stdin=xml)
    assert (again.code, again.err) == (0, "")
    assert again.json["events"] == first.json["events"]
    assert "has changes in place, which its start would undo first" in again.json["notes"][0]
    # Only the first event of a start undoes that.
    dry_run = command.here("hook", "good", "started", "begin", "-", "--dry-run", stdin=xml)
    assert (dry_run.code, "has changes in place" in dry_run.out) == (0, False)
    assert texts(tmp_path) == before


def test_a_damaged_journal_fails_the_plan_as_it_would_the_start(command: Command) -> None:
    command.state.mkdir(mode=0o700)
    (command.state / f"{UUID}.journal").write_text("{}\n")
    result = command.here("plan", "--xml", "-", "--use", "pci", stdin=domain_xml())
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"vfio-hooks: STATE/{UUID}.journal:1: damaged journal")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users can read."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@needs_root
def test_without_root_all_but_the_state_is_there(open_folder: Path) -> None:
    host = gpu_host(open_folder / "host")
    (open_folder / "win11.xml").write_text(domain_xml(managed="no"))
    (open_folder / "hooks/qemu.d/win11").mkdir(parents=True)
    (open_folder / "hooks/qemu.d/win11/vm.toml").write_text("[pci]\n")
    (open_folder / "state").mkdir(mode=0o700)
    places = [f"--{name}-dir={open_folder}/{path}" for name, path in _FOLDERS.items()]
    argv = ["plan", f"--root={host}", f"--xml={open_folder}/win11.xml", *places]
    done = as_nobody(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    first, *rest = BOUND.splitlines()
    note = f"note: {open_folder}/state can only be read by root, so this plan does not know what"
    assert done.stdout.splitlines() == [first, f"{note} other VMs have changed", *rest]


_FOLDERS = {"config": "hooks", "state": "state"}


def test_a_device_that_the_firmware_reaches_memory_through(command: Command) -> None:
    """A plan counts on an unpatched kernel."""
    regions = command.host / "sys/kernel/iommu_groups/8/reserved_regions"
    xml = domain_xml(functions=("0000:05:00.0",))
    argv = ("plan", "--xml", "-", "--use", "pci")
    for kind, code in (("direct-relaxable", 0), ("direct", 1)):
        regions.write_text(f"0xbdf83000 0xbdf84fff {kind}\n0xfee00000 0xfeefffff msi\n")
        result = command.here(*argv, stdin=xml)
        assert result.code == code
    assert result.err.startswith(
        "vfio-hooks: prepare would fail: pci: 0000:05:00.0 (e1000e, 8086:10d3): the firmware has "
        "to be able to reach memory through it at all times (RMRR, 0xbdf83000-0xbdf84fff), so "
        "the kernel"
    )


LOOKING_GLASS = """\
  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
    <qemu:arg value='-object'/>
    <qemu:arg value="{'qom-type':'memory-backend-file','mem-path':'/dev/kvmfr0',what is this"/>
  </qemu:commandline>
"""


def test_what_no_table_needs_keeps_no_vm_from_its_start(command: Command) -> None:
    """What cannot be read of a domain is a note, and an error only for a table that needs it."""
    xml = domain_xml(managed="no", more=LOOKING_GLASS)
    told = "the XML of domain win11: the QEMU argument {'qom-type':'memory-backend-file','mem-"
    result = command.here("plan", "--xml", "-", "--use", "pci", stdin=xml)
    assert (result.code, result.err) == (0, "")
    notes = [line for line in result.out.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert notes[0].startswith(f"note: {told}")
    assert notes[0].endswith("; no table needs that")
    result = command.here("plan", "--xml", "-", "--use", "pci,shm", stdin=xml)
    assert result.code == 1
    assert result.err.startswith(f"vfio-hooks: prepare would fail: shm: {told}")
    assert "note: " not in result.out
    odd = xml.replace("bus='0x04'", "bus='04:00'")
    result = command.here("plan", "--xml", "-", "--use", "pci", stdin=odd)
    assert result.err.startswith("vfio-hooks: prepare would fail: pci: the XML of domain win11: ")


@pytest.mark.parametrize("verb", ["topology", "iommu", "init", "check"])
def test_no_domain_keeps_a_verb_from_the_others(command: Command, verb: str) -> None:
    put = command.host / "etc/libvirt/qemu"
    put.mkdir(parents=True)
    add_cpus(command.host)
    (put / "win11.xml").write_text(domain_xml())
    (put / "odd.xml").write_text(domain_xml("odd", UUID[:-1] + "2").replace("bus='0x04'", "bus=''"))
    (put / "broken.xml").write_text("<domain><name>broken</name>")
    which = ["win11", "--dry-run"] if verb == "init" else ["win11"] if verb == "check" else []
    result = command.here(verb, *which)
    assert "win11" in result.out + result.err
    told = [line for line in result.err.splitlines() if "note: " in line]
    assert all(line.endswith(": going on without it") for line in told)
    assert "broken.xml: the domain XML cannot be read: " in told[0]
    # Of other domains check looks at what it can read.
    assert len(told) == (1 if verb == "check" else 2)
    assert told[1:] == [line for line in told if "domain odd: the address of a PCI <host" in line]
    assert result.code == 0 or verb == "check"
