"""`vfio-hooks rehearse`: the clone has what is rehearsed and nothing that could be lost, and what
does not come back is named."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies

from tests.command import UUID, Command, as_nobody
from tests.hosttree import add_cpus, domain_xml
from vfio_hooks.cli import rehearse as cli
from vfio_hooks.config import load
from vfio_hooks.domain import Domain, identify, parse
from vfio_hooks.engine import Engine
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths
from vfio_hooks.rehearse import before, rescue, service
from vfio_hooks.rehearse.clone import clone, name_of, uuid_of
from vfio_hooks.rehearse.compared import since_when
from vfio_hooks.rehearse.looks import Looks
from vfio_hooks.rehearse.observed import State, interrupts
from vfio_hooks.rehearse.report import Report, new_path
from vfio_hooks.rehearse.rounds import Stage, play

pytestmark = pytest.mark.real_processes
GOOD = Path(__file__).parent / "domains/good.xml"
DOMAINS = sorted(Path(__file__).parent.glob("*/*.xml"))
POOL = "<interface type='network'><source network='pool'/></interface>"
QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
GPU = "0000:04:00.0"


def cloned(devices: str, more: str = "") -> str:
    xml = domain_xml(more=more).replace("</devices>", f"{devices}</devices>")
    xml = xml.replace("<domain ", f"<domain {QEMU} ")
    return clone("win11", xml.encode(), lambda network: network == "pool").xml.decode()


@pytest.mark.parametrize("file", DOMAINS, ids=lambda file: file.stem)
def test_a_clone_has_what_concerns_the_host(file: Path) -> None:
    whole = parse(file.read_bytes())
    made = clone(whole.name, file.read_bytes(), lambda network: False)
    own = parse(made.xml)
    assert identify(made.xml) == (made.name, made.uuid) == (own.name, own.uuid)
    assert own.name != whole.name and own.uuid != whole.uuid
    assert own.pci == tuple(one for one in whole.pci if one.origin != "disk")
    for part in ("memory", "vcpus", "vcpu_pins", "emulator_pin", "iothread_pins", "iothreads"):
        assert getattr(own, part) == getattr(whole, part), part
    for part in ("numa_nodes", "cell_nodes", "hugepages", "usb", "shared"):
        assert getattr(own, part) == getattr(whole, part), part


@pytest.mark.parametrize("file", DOMAINS, ids=lambda file: file.stem)
def test_a_clone_has_nothing_that_could_be_lost(file: Path) -> None:
    made = clone("x", file.read_bytes(), lambda network: False)
    text = made.xml.decode()
    for lost in ("<disk", "<nvram", "pflash", "<tpm", "<graphics", "<filesystem", "<channel"):
        assert lost not in text
    assert "<interface" not in text or "type='hostdev'" in file.read_text()


def test_what_a_clone_lacks_is_told() -> None:
    made = clone("good", GOOD.read_bytes(), lambda network: False)
    assert made.lacks == ("<disk>", "<interface>", "<tpm>", "<memballoon>")


@pytest.mark.parametrize(
    ("device", "kept"),
    [
        ("<interface type='hostdev'><source/></interface>", True),
        (POOL, True),
        (POOL.replace("pool", "default"), False),
        ("<interface type='bridge'><source bridge='br0'/></interface>", False),
        ("<hostdev mode='subsystem' type='usb'><source/></hostdev>", True),
        ("<hostdev mode='subsystem' type='mdev' model='vfio-pci'/>", True),
        # Both are disks.
        ("<hostdev mode='subsystem' type='scsi'><source/></hostdev>", False),
        ("<disk type='nvme'><source type='pci'/></disk>", False),
        ("<controller type='pci' index='1' model='pcie-root-port'/>", True),
        ("<controller type='scsi' model='virtio-scsi'/>", False),
        ("<memory model='dimm'><target/></memory>", True),
        ("<memory model='nvdimm'><target/></memory>", False),
        ("<shmem name='looking-glass'/>", True),
        # It would take the keyboard.
        ("<input type='evdev'><source dev='/dev/input/event3'/></input>", False),
    ],
)
def test_devices(device: str, kept: bool) -> None:
    tag = device[1:].split(" ")[0].split(">")[0]
    assert cloned(device).count(f"<{tag}") - cloned("").count(f"<{tag}") == kept


def test_firmware_boot_order_and_arguments() -> None:
    text = cloned(
        "<hostdev type='usb'><source/><boot order='1'/></hostdev>",
        "<os firmware='efi'><type machine='q35'>hvm</type><loader type='pflash'>/x</loader>"
        "<boot dev='hd'/></os><qemu:commandline><qemu:arg value='-drive'/>"
        "<qemu:arg value='file=/x'/><qemu:arg value='-object'/>"
        "<qemu:arg value='memory-backend-file,id=m,mem-path=/dev/kvmfr0'/>"
        "<qemu:env name='A' value='b'/></qemu:commandline>",
    )
    assert '<os><type machine="q35">hvm</type></os>' in text
    assert "boot" not in text and "-drive" not in text and "/x" not in text
    assert 'value="-object"/><qemu:arg value="memory-backend-file' in text
    assert "qemu:env" not in text


@pytest.mark.parametrize(
    ("before", "running", "after", "expected"),
    [
        ("a", "b", "a", []),
        ("a", "a", "a", []),
        ("a", "b", "b", ["x: 'a' -> 'b', since the start of round 3"]),
        ("a", "a", "b", ["x: 'a' -> 'b', since the end of round 3"]),
        ("a", "b", "c", ["x: 'a' -> 'c', since the end of round 3"]),
        ("a", None, None, ["x: gone, was 'a', since the start of round 3"]),
        (None, None, "b", ["x: new, 'b', since the end of round 3"]),
    ],
)
def test_since_which_event(
    before: str | None, running: str | None, after: str | None, expected: list[str]
) -> None:
    first, second, last = ({"x": value} if value else {} for value in (before, running, after))
    assert [str(one) for one in since_when(first, second, last, 3)] == expected


_STATES = strategies.dictionaries(strategies.sampled_from("abc"), strategies.sampled_from("12"))


@given(_STATES, _STATES, _STATES)
def test_each_difference_is_told_once(first: State, running: State, last: State) -> None:
    found = [one.key for one in since_when(first, running, last, 1)]
    assert sorted(found) == sorted(
        key for key in first.keys() | last.keys() if first.get(key) != last.get(key)
    )


def irq_host(root: Path, number: int, mask: str, use: str = "(null)") -> Host:
    """A host of eight CPUs on two nodes with an interrupt that may go to these CPUs."""
    if not root.joinpath("proc/irq").exists():
        add_cpus(root, nodes=2, cores=2, threads=2, per_l3=2)
    for name, text in (
        ("proc/irq/default_smp_affinity", "ff"),
        (f"proc/irq/{number}/smp_affinity_list", mask),
        (f"proc/irq/{number}/node", "0"),
        (f"sys/kernel/irq/{number}/actions", use),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return Host(str(root))


@pytest.mark.parametrize(
    ("mask", "use", "expected"),
    [
        ("0-7", "(null)", {"line 10": "default"}),
        # Node 0's CPUs: the kernel has taken them of the default, when it was used.
        ("0-1,4-5", "(null)", {"line 10": "default"}),
        ("2-3,6-7", "(null)", {"line 10": "2-3,6-7"}),
        ("0", "(null)", {"line 10": "0"}),
        # One in use may have been moved there.
        ("0-1,4-5", "rtc0", {"irq 10 rtc0": "0-1,4-5"}),
        ("0", "nvme0q0", {}),
    ],
)
def test_which_cpus_an_interrupt_may_go_to(
    mask: str, use: str, expected: State, tmp_path: Path
) -> None:
    assert dict(interrupts(irq_host(tmp_path, 10, mask, use))) == expected


def test_interrupts_of_a_device_have_its_name(tmp_path: Path) -> None:
    irq_host(tmp_path, 30, "1", "vfio-msi[0](0000:04:00.0)")
    host = irq_host(tmp_path, 31, "1")
    for number in ("30", "31"):
        (tmp_path / f"sys/bus/pci/devices/{GPU}/msi_irqs/{number}").mkdir(parents=True)
    assert dict(interrupts(host)) == {f"irq {GPU} vfio-msi[0](0000:04:00.0)": "1"}


def looks(*states: State, stay: frozenset[str] = frozenset()) -> Looks:
    """Looks that see one state after the other, and then always the last."""
    left = list(states)
    return Looks(stay, lambda: left.pop(0) if len(left) > 1 else left[0])


@pytest.mark.parametrize(
    ("by_itself", "after", "expected"),
    [
        ({}, {"irq a": "1", "irq b": "2", "shm f": "x"}, []),
        ({}, {"irq a": "1", "irq b": "3", "shm f": "x"}, ["irq b"]),
        # irqbalance moves them.
        ({"irq a": "7"}, {"irq a": "1", "irq b": "3", "shm f": "x"}, []),
        ({"mem": "1"}, {"irq a": "1", "irq b": "2", "shm f": "x", "mem": "2"}, []),
        ({}, {"irq a": "1", "irq b": "2"}, []),
        ({}, {"irq a": "1", "irq b": "2", "shm f": "y"}, ["shm f"]),
        ({}, {"irq a": "1", "irq b": "2", "shm f": "x", "unit vfio-hooks-rehearsal": "a"}, []),
    ],
)
def test_what_changes_by_itself_is_left_out(
    by_itself: State, after: State, expected: list[str]
) -> None:
    first = {"irq a": "1", "irq b": "2", "shm f": "x"}
    found = looks(first, {**first, **by_itself}, after)
    begin = found.take()
    found.learn(begin)
    assert list(found.changes(begin, found.take())) == expected


def test_a_journal_is_told_in_words() -> None:
    found = looks({}, {"left /run/vfio-hooks/a.journal": '{"record":"begin"}'})
    assert list(found.changes(found.take(), found.take()).values()) == [
        "new, 'changes that are not put back; vfio-hooks status'"
    ]


def test_shared_memory_of_the_vm_counts() -> None:
    found = looks({}, {"shm mine": "x", "shm other": "x"}, stay=frozenset({"shm mine"}))
    assert list(found.changes(found.take(), found.take())) == ["shm mine"]


def test_what_comes_back_late_is_waited_for() -> None:
    assert looks({"a": "2"}, {"a": "2"}, {"a": "1"}).settled({"a": "1"}, 60) == {"a": "1"}
    assert looks({"a": "2"}).settled({"a": "1"}, 0) == {"a": "2"}


def nothing() -> None:
    pass


def fails() -> None:
    raise HookError("it fails")


@pytest.mark.parametrize(
    ("start", "end", "states", "expected"),
    [
        (nothing, nothing, ["a"], []),
        (nothing, nothing, ["a", "b", "a"], []),
        (nothing, nothing, ["a", "b"], ["x: 'a' -> 'b', since the start of round 1"]),
        (
            nothing,
            nothing,
            ["a", "a", "a", "a", "a", "b"],
            ["x: 'a' -> 'b', since the end of round 2"],
        ),
        (fails, nothing, ["a"], ["round 1: it does not start: it fails"]),
        (nothing, fails, ["a"], ["round 1: it does not end: it fails"]),
        (
            fails,
            nothing,
            ["a", "b"],
            [
                "round 1: it does not start: it fails",
                "x: 'a' -> 'b', since the start of round 1",
            ],
        ),
    ],
)
def test_rounds(
    start: Callable[[], None], end: Callable[[], None], states: list[str], expected: list[str]
) -> None:
    told: list[str] = []
    seen = looks(*({"x": state} for state in states))
    stage = Stage(start, end, seen, lambda since: ["odd"], told.append, settle=0)
    assert play(stage, 2, lambda: False) == expected
    assert "round 1: the hook warns: odd" in told
    assert any("round 2" in line for line in told) == (start is end is nothing)


def test_a_rehearsal_that_is_stopped() -> None:
    stage = Stage(fails, fails, looks({}), lambda since: [], print, settle=0)
    assert play(stage, 5, lambda: True) == ["stopped before round 1 of 5"]


def test_the_report(tmp_path: Path) -> None:
    path = new_path("a/b", str(tmp_path / "new"))
    report = Report(path, "a/b")
    report.tell("one")
    report.conclude([])
    lines = Path(path).read_text().splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["one", "verdict: equal"]
    assert Path(path).stat().st_mode & 0o777 == 0o600
    assert Path(path).parent.stat().st_mode & 0o777 == 0o700


DOMAIN = Domain("win11", UUID)


@pytest.mark.parametrize(
    ("toml", "running", "said"),
    [
        ("[pci]\n", True, "win11 is running; shut it down first"),
        (None, False, "win11 has no folder in HOOKS/qemu.d: there is nothing to rehearse; vfio-"),
        (
            "dry_run = true\n[pci]\n",
            False,
            "win11: dry_run is on, so nothing would be done; remove",
        ),
        ("[pc1]\n", False, "HOOKS/qemu.d/win11/vm.toml:1: "),
    ],
)
def test_what_is_refused(command: Command, toml: str | None, running: bool, said: str) -> None:
    if toml is not None:
        command.manage("win11", toml)
    here = Paths(str(command.hooks), str(command.state), str(command.host))
    with pytest.raises(HookError) as refused:
        before.permitted(DOMAIN, running, here)
    assert str(refused.value).replace(str(command.hooks), "HOOKS").startswith(said)


def test_a_domain_of_the_clones_name_is_in_the_way(command: Command) -> None:
    command.manage("win11")
    file = command.host / "etc/libvirt/qemu/own.xml"
    file.parent.mkdir(parents=True)
    file.write_text(domain_xml(name_of("win11")))
    here = Paths(str(command.hooks), str(command.state), str(command.host))
    with pytest.raises(HookError, match="there is a domain win11-rehearsal, but the clone needs"):
        before.permitted(DOMAIN, False, here)


@pytest.mark.parametrize(
    ("uuid", "vm", "runs", "refused"),
    [
        (UUID, "win11", False, True),
        (uuid_of("win11"), name_of("win11"), False, True),
        (UUID[:-1] + "2", "other", False, True),
        (UUID[:-1] + "2", "other", True, False),
    ],
)
def test_a_host_that_holds_changes(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    uuid: str,
    vm: str,
    runs: bool,
    refused: bool,
) -> None:
    monkeypatch.setattr(before, "find", lambda program: program)
    command.manage("win11")
    command.manage(vm, '[[write]]\npath = "/proc/sys/vm/swappiness"\nvalue = 1\n')
    file = command.host / "proc/sys/vm/swappiness"
    file.parent.mkdir(parents=True)
    file.write_text("60\n")
    xml = domain_xml(vm, uuid)
    assert command.here("hook", vm, "prepare", "begin", "-", stdin=xml).code == 0
    command.manage("win11")
    if runs:
        state = command.host / f"run/libvirt/qemu/{vm}.xml"
        state.parent.mkdir(parents=True)
        state.write_text(f"<domstatus>{xml}</domstatus>")
    here = Paths(str(command.hooks), str(command.state), str(command.host))
    if not refused:
        assert before.permitted(DOMAIN, False, here).tables
        return
    with pytest.raises(HookError, match=f"changes for {vm}, which is not running; .* undo {vm}"):
        before.permitted(DOMAIN, False, here)


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("flr bus", (0,), []),
        (None, (0, 1, 2), []),
        (None, (0,), [GPU]),
        ("", (0, 1), [GPU]),
        (None, (1, 2), []),
    ],
)
def test_cards_without_a_reset(
    command: Command, method: str | None, given: tuple[int, ...], expected: list[str]
) -> None:
    if method is not None:
        (command.host / f"sys/bus/pci/devices/{GPU}/reset_method").write_text(f"{method}\n")
    functions = tuple(f"{GPU[:-1]}{number}" for number in given)
    domain = parse(domain_xml(functions=functions).encode())
    assert list(before.without_reset(Host(str(command.host)), domain)) == expected


def test_only_root_may() -> None:
    done = as_nobody("rehearse", "win11", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "vfio-hooks: rehearse needs root; try again with sudo\n"


def test_no_libvirt_answers(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("libvirt")
    monkeypatch.setattr(cli, "SYSTEM", "test:///nowhere.xml")
    result = command("rehearse", "win11", "--yes")
    assert result.code == 1
    assert result.err.startswith("vfio-hooks: libvirt at test:///nowhere.xml: ")
    assert result.err.endswith("; or rehearse in an emulated host, with --this-host --xml FILE\n")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which VM? give its name or UUID"),
        (["--xml", "x"], "--xml is for --host and --this-host; leave it out"),
        (["win11", "--config-dir", "x"], "--config-dir is for --host and --this-host; leave it"),
        (["--this-host", "--xml", "/no/such"], "/no/such: cannot be read: No such file"),
        (["--host", "HOST"], "which VM? give its name, or its XML with --xml FILE"),
        (["--host", "HOST", "--xml", "GOOD", "x"], "the XML is of good, not of x"),
    ],
)
def test_whose_xml_is_meant(command: Command, words: list[str], said: str) -> None:
    files = {"HOST": str(command.host), "GOOD": str(GOOD)}
    result = command("rehearse", *(files.get(word, word) for word in words))
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert result.err.startswith(f"vfio-hooks: {said}")


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--rounds", "x"], ["--rounds", "1001"]])
def test_numbers_of_rounds(command: Command, words: list[str]) -> None:
    result = command("rehearse", "win11", *words)
    assert result.code == 2 and "is not a number of rounds, 1 to 1000" in result.err


@pytest.mark.parametrize(("last", "code"), [("verdict: equal", 0), ("verdict: a differs", 1)])
def test_the_report_is_followed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    last: str,
    code: int,
) -> None:
    monkeypatch.setattr(before, "is_active", lambda host, unit: False)
    path = tmp_path / "report"
    path.write_text(f"10:00:00 begun\n10:00:01 {last}\n")
    assert cli._follow(Host(), str(path)) == code
    assert capsys.readouterr().out == path.read_text()
    with pytest.raises(HookError, match="ended at once; journalctl -u vfio-hooks-rehearsal"):
        cli._follow(Host(), str(tmp_path / "none"))


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the hooks with a VM's, and one for what is noted of devices."""
    folder = tmp_path / "hooks/qemu.d"
    (folder / "win11").mkdir(parents=True)
    (tmp_path / "devices").mkdir()
    monkeypatch.setattr(service, "HOOKS", str(tmp_path / "hooks"))
    monkeypatch.setattr(service, "DEVICES", str(tmp_path / "devices"))
    return folder


@pytest.mark.parametrize("left", [False, True], ids=["new", "left by a crash of the host"])
def test_the_clones_folder_is_the_vms(hooks: Path, left: bool) -> None:
    own = hooks / name_of("win11")
    if left:
        own.symlink_to("elsewhere")
    noted = hooks.parents[1] / "devices" / uuid_of("win11")
    noted.touch()
    service.link("win11")
    assert own.resolve() == hooks / "win11"
    (hooks / "win11/vm.toml").write_text("[pci]\n")
    config = load(str(hooks.parent), name_of("win11"))
    assert config and [table.name for table in config.tables] == ["pci"]
    service.tidy("win11")
    assert [path.name for path in hooks.iterdir()] == ["win11"] and not noted.exists()


def test_a_folder_of_the_users_own_is_in_the_way(hooks: Path) -> None:
    (hooks / name_of("win11")).mkdir()
    with pytest.raises(HookError, match="win11-rehearsal: cannot be made: File exists"):
        service.link("win11")
    service.tidy("win11")
    assert (hooks / name_of("win11")).is_dir()


@pytest.mark.parametrize(
    ("state", "rescues"),
    [
        ("active", False),
        ("activating", False),
        # It is just ending the round.
        ("deactivating", False),
        ("inactive", True),
        ("failed", True),
        ("", True),
    ],
)
def test_when_the_timer_rescues(tmp_path: Path, state: str, rescues: bool) -> None:
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho {state}\n")
    systemctl.chmod(0o755)
    argv = ["sh", "-c", service._UNLESS_ACTIVE, "sh", "echo", "rescued"]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(argv, env=path, capture_output=True, text=True, check=True)
    assert bool(done.stdout) is rescues


def test_a_timer_that_cannot_be_armed(
    hooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is started then."""
    ran: list[str] = []

    def run(argv: list[str], seconds: float) -> str:
        ran.append(argv[0])
        raise HookError(f"{argv[0]}: it fails")

    monkeypatch.setattr(service, "run", run)
    monkeypatch.setattr(service, "is_active", lambda host, unit: True)
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)
    report = tmp_path / "report"
    assert service.conduct("win11", "/nowhere.xml", 5, str(report)) == 1
    assert ran == ["systemd-run", "systemctl"]
    assert report.read_text().endswith("verdict: systemd-run: it fails\n")


def test_whatever_fails_of_a_rescue_the_rest_is_done(
    hooks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def fails(*argv: object) -> list[str]:
        raise HookError("it fails")

    monkeypatch.setattr(rescue, "end_vm", fails)
    monkeypatch.setattr(rescue, "_kill", lambda name, uuid: done.append(f"kill {name} {uuid}"))
    monkeypatch.setattr(Engine, "undo", lambda *argv: fails())
    monkeypatch.setattr(rescue, "run", lambda argv, seconds: done.append(" ".join(argv)))
    monkeypatch.setattr(rescue, "disarm", lambda: done.append("disarm"))
    service.link("win11")
    report = tmp_path / "report"
    assert rescue.rescue("win11", str(report), "gdm.service") == 1
    assert done == [
        f"kill {name_of('win11')} {uuid_of('win11')}",
        *("systemctl start -- gdm.service", "disarm"),
    ]
    assert not (hooks / name_of("win11")).is_symlink()
    assert report.read_text().count("verdict: it fails") == 2
