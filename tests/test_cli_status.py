"""vfio-hooks status: what is changed, by whom, and what will become of it."""

import fcntl
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.command import UUID, Command, as_nobody, needs_root
from tests.hosttree import domain_xml
from vfio_hooks.engine import Engine
from vfio_hooks.engine.journal import Journal, State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import Gone
from vfio_hooks.host import Host, WritableHost, units
from vfio_hooks.host.units import UnitState
from vfio_hooks.knobs.command import Command as Program
from vfio_hooks.knobs.file import CpuMask, File
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.module import Module
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.log import SystemdJournal
from vfio_hooks.sharing import Add, Once, Override, Run, Subtract
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
POOL = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
OTHER = "00000000-0000-0000-0000-00000000000b"


def engine(command: Command) -> Engine:
    return Engine(
        WritableHost(str(command.host)),
        StateFolder(str(command.state)),
        SystemdJournal("/no/such/socket"),
    )


def path(command: Command, name: str) -> Path:
    """The path of one of the host's values: "pages", or a file of that name."""
    return command.host / (POOL.lstrip("/") if name == "pages" else name)


def put(command: Command, **values: str) -> None:
    for name, text in values.items():
        path(command, name).parent.mkdir(parents=True, exist_ok=True)
        path(command, name).write_text(text + "\n")


def read(command: Command, name: str) -> str:
    return path(command, name).read_text().strip()


def prepare(command: Command, uuid: str, vm: str, *steps: Step) -> None:
    engine(command).perform("prepare", uuid, vm, lambda _: steps)


def undated(text: str) -> str:
    """The text with TIME in place of its times."""
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", "TIME", text)


GOVERNOR = Step("governor", File("/governor"), Override("performance"))


def test_nothing_is_changed(command: Command) -> None:
    result = command.here("status")
    assert (result.code, result.out, result.err) == (0, "nothing is changed\n", "")
    assert not command.state.exists()
    assert command.here("status", "--json").json == {"vms": [], "damaged": []}


def test_base_live_and_what_release_restores(command: Command) -> None:
    put(command, governor="powersave", pages="2", cpus="0-7")
    prepare(
        command,
        UUID,
        "win11",
        Step("cpus", CpuMask("/cpus"), Subtract("4-7"), until="stopped"),
        GOVERNOR,
        Step("hugepages", Pages(POOL), Add(8)),
    )
    put(command, pages="11")
    result = command.here("status")
    assert (result.code, result.err) == (0, "")
    assert undated(result.out).splitlines() == [
        f"win11 ({UUID})",
        "  cpus",
        "    /cpus: 0-7 → 0-3",
        "      since TIME (prepare); at stopped: 0-7",
        "  governor",
        "    /governor: powersave → performance",
        "      since TIME (prepare); at release: powersave",
        "  hugepages",
        f"    {POOL}: 2 → 11",
        "      since TIME (prepare); at release: 3",
    ]


def test_release_restores_what_status_said(command: Command) -> None:
    """Whatever another VM and somebody else have done to the values meanwhile."""
    put(command, governor="powersave", pages="2", cpus="0-7")
    steps = (
        Step("cpus", CpuMask("/cpus"), Subtract("4-7")),
        GOVERNOR,
        Step("hugepages", Pages(POOL), Add(8)),
    )
    prepare(command, UUID, "win11", *steps)
    others = Step("governor", File("/governor"), Override("schedutil"))
    prepare(command, OTHER, "b", Step("cpus", CpuMask("/cpus"), Subtract("2-5")), others)
    put(command, pages="12")
    changes = command.here("status", "win11", "--json").json["vms"][0]["changes"]
    said = [change["restores"] for change in changes]
    assert said == ["0-1,6-7", "schedutil", "4"]
    engine(command).undo("release", UUID)
    assert [read(command, name) for name in ("cpus", "governor", "pages")] == said


def test_a_value_of_somebody_else_will_be_left_alone(command: Command) -> None:
    put(command, governor="powersave")
    prepare(command, UUID, "win11", GOVERNOR)
    put(command, governor="ondemand")
    result = command.here("status")
    assert undated(result.out).splitlines()[2:] == [
        "    /governor: powersave → ondemand",
        "      since TIME (prepare); somebody else has changed it since, so it will be left alone",
    ]
    # A second VM finds that out, and takes the value from there; the first one's claim is lost.
    prepare(command, OTHER, "b", GOVERNOR)
    change = command.here("status", "--json", "win11").json["vms"][0]["changes"][0]
    assert (change["state"], change["restores"]) == ("lost", None)
    assert change["note"] == "somebody else has changed it since, so it will be left alone"


def test_a_value_that_is_the_hosts_own_again(command: Command) -> None:
    """For example, a helper program that has ended by itself."""
    put(command, governor="powersave")
    prepare(command, UUID, "win11", GOVERNOR)
    put(command, governor="powersave")
    assert undated(command.here("status").out).splitlines()[2:] == [
        "    /governor: powersave",
        "      since TIME (prepare); it is no longer performance",
    ]


def test_a_value_that_waits_for_cpus(command: Command) -> None:
    put(command, cpus="0-7")
    prepare(command, UUID, "win11", Step("cpus", File("/cpus"), Subtract("4-5")))
    put(command, cpus="0-7")
    journal = Ledger(StateFolder(str(command.state))).find(UUID)
    assert journal
    (claim,) = journal.live()
    journal.begin("release", 2)
    journal.mark(claim, State.WAITING, "7")
    journal.end()
    assert undated(command.here("status").out).splitlines()[2:] == [
        "    /cpus: 0-7",
        "      since TIME (prepare, waiting); it waits for CPUs that are offline: 7",
    ]


def test_a_service_that_has_died(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Program(("true",), ("true",), title="a.service: it watches", unit="a.service")
    folder = StateFolder(str(command.state))
    folder.prepare()
    journal = folder.create(UUID, "win11")
    journal.begin("started", 1)
    journal.claim(1, "started", 0.0, Step("gpu", watch, Run()), "")
    journal.end()
    assert "died" not in command.here("status").out
    monkeypatch.setattr(Program, "died", lambda self, host: self.unit)
    (line,) = undated(command.here("status").out).splitlines()[3:]
    assert line.endswith("; it has died; journalctl -u a.service")


@pytest.mark.parametrize(
    ("unit", "state", "expected"),
    [
        ("", None, ""),
        ("a.service", "active", ""),
        ("a.service", "activating", ""),
        ("a.service", "failed", "a.service"),
        # systemd forgets one that was made for this, when it has ended.
        ("a.service", None, "a.service"),
    ],
)
def test_whether_a_service_has_died(
    monkeypatch: pytest.MonkeyPatch, unit: str, state: str | None, expected: str
) -> None:
    def told(host: Host, name: str) -> UnitState:
        if state is None:
            raise Gone(f"{name}: systemd has no such unit")
        return UnitState("loaded", state, "")

    monkeypatch.setattr(units, "state", told)
    assert Program(("true",), ("true",), unit=unit).died(Host()) == expected
    assert not Program(("true",), ("true",), unit=unit).died(Host("/tmp"))


def test_what_is_not_there_any_more(command: Command) -> None:
    put(command, governor="powersave")
    prepare(command, UUID, "win11", GOVERNOR)
    (command.host / "governor").unlink()
    result = command.here("status")
    assert result.code == 0
    assert undated(result.out).splitlines()[2] == "    /governor: powersave → unknown"
    assert "/governor" in undated(result.out).splitlines()[3]


def test_what_cannot_be_read_or_undone(command: Command) -> None:
    program = Step("test", Program(("true",), ("echo", "a b")), Run())
    module = Step("pci", Module("vfio-pci"), Once("loaded"))
    folder = StateFolder(str(command.state))
    folder.prepare()
    journal = folder.create(UUID, "win11")
    journal.begin("started", 1)
    journal.claim(1, "started", 0.0, module, "")
    journal.claim(2, "started", 0.0, program, "")
    journal.end()
    assert undated(command.here("status").out).splitlines()[1:] == [
        "  pci",
        "    /sys/module/vfio_pci",
        "      since TIME (started, pending); cannot be undone: it stays",
        "  test",
        "    true",
        "      since TIME (started, pending); at release: echo 'a b'",
    ]


def cut_off(command: Command) -> Journal:
    """The journal of an event that was cut off."""
    put(command, governor="powersave")
    folder = StateFolder(str(command.state))
    folder.prepare()
    journal = folder.create(UUID, "win11")
    journal.begin("prepare", 1)
    journal.claim(1, "prepare", 1700000000.0, GOVERNOR, "powersave")
    return journal


def test_an_event_that_was_cut_off(command: Command) -> None:
    cut_off(command)
    lines = undated(command.here("status").out).splitlines()
    assert lines[1:] == [
        "  prepare was cut off: the next event of any VM, or vfio-hooks undo, cleans up",
        "  governor",
        "    /governor: powersave (stays)",
        "      since TIME (prepare, pending); at release: powersave",
    ]


def test_an_event_that_goes_on_right_now(command: Command) -> None:
    cut_off(command)
    with (command.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = command.here("status", "--json").json["vms"][0]
        assert (found["cut_off"], found["busy"]) == ("prepare", True)
        line = "  prepare is being handled now, or was cut off"
        assert command.here("status").out.splitlines()[1] == line
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert not command.here("status", "--json").json["vms"][0]["busy"]


def test_looking_does_not_keep_the_lock(command: Command) -> None:
    put(command, governor="powersave")
    prepare(command, UUID, "win11", GOVERNOR)
    command.here("status")
    with (command.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_one_vm_of_several(command: Command) -> None:
    put(command, governor="powersave", pages="0")
    prepare(command, UUID, "win11", GOVERNOR)
    prepare(command, OTHER, "b", Step("hugepages", Pages(POOL), Add(1)))
    heads = [line for line in command.here("status").out.splitlines() if line[0] != " "]
    assert heads == [f"b ({OTHER})", f"win11 ({UUID})"]
    for wanted in ("b", OTHER):
        assert [vm["name"] for vm in command.here("status", "--json", wanted).json["vms"]] == ["b"]
    assert command.here("status", "c").out == "nothing is changed by c\n"


def test_a_damaged_journal_is_named_and_a_failure(command: Command) -> None:
    put(command, governor="powersave")
    prepare(command, UUID, "win11", GOVERNOR)
    (command.state / f"{OTHER}.journal").write_text("[]\n")
    result = command.here("status")
    assert result.code == 1
    assert result.out.startswith(f"win11 ({UUID})\n")
    assert result.err.startswith(f"vfio-hooks: STATE/{OTHER}.journal:1: damaged journal")
    assert result.err.count("\n") == 1
    found = command.here("status", "--json")
    assert (found.code, found.err, len(found.json["damaged"])) == (1, "", 1)
    # What that one has changed is not known.
    (command.state / f"{UUID}.journal").unlink()
    found = command.here("status")
    assert (found.code, found.out, found.err) == (1, "", result.err)


def test_many_that_are_alike_are_one(command: Command) -> None:
    numbers = [24, 25, 26, 40]
    for number in numbers:
        file = command.host / f"proc/irq/{number}/smp_affinity_list"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("0-7\n")
    put(command, cpus="0-7")
    steps = [Step("irqs", IrqAffinity(number), Subtract("4-7")) for number in numbers]
    prepare(command, UUID, "win11", Step("irqs", CpuMask("/cpus"), Subtract("4-7")), *steps)
    assert undated(command.here("status").out).splitlines()[1:] == [
        "  irqs",
        "    /cpus: 0-7 → 0-3",
        "      since TIME (prepare); at release: 0-7",
        "    /proc/irq/{24-26,40}/smp_affinity_list: 0-7 → 0-3",
        "      since TIME (prepare); at release: 0-7",
    ]
    # One of them is another by now, and the rest are a few.
    (command.host / "proc/irq/40/smp_affinity_list").write_text("5\n")
    shown = command.here("status").out
    assert all(f"    /proc/irq/{number}/smp_affinity_list: 0-7 → " in shown for number in numbers)
    assert len(command.here("status", "--json").json["vms"][0]["changes"]) == 5


@needs_root
def test_without_root_it_says_so(command: Command) -> None:
    command.manage("win11")
    command.here("hook", "win11", "prepare", "begin", "-", stdin=domain_xml())
    # Below /tmp's private folders nothing can be reached; the real place is as closed.
    done = as_nobody("status", f"--state-dir={command.state}")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (f"vfio-hooks: only root can read {command.state}; try again with sudo\n")


def test_a_value_that_all_share_is_read_once(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(command, governor="powersave", pages="2")
    for number, uuid in enumerate((UUID, OTHER)):
        prepare(command, uuid, f"vm{number}", GOVERNOR)
    reads: Counter[str] = Counter()
    read_it = Host.read

    def counted(host: Host, name: str) -> str:
        reads[name] += 1
        return read_it(host, name)

    monkeypatch.setattr(Host, "read", counted)
    assert command.here("status").out.count("/governor: ") == 2
    assert reads["/governor"] == 1
