"""Journals of many VMs: they take few writes, and of other VMs' journals only what is shared with
them is parsed."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.kernel import Lines, a_host
from tests.test_crashes import PLANS, VICTIM, other
from vfio_hooks.engine import Engine
from vfio_hooks.engine.disk import Disk
from vfio_hooks.engine.journal import END, SUM, Journal, State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.sealed import FEW, Sealed, sealed
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.sharing import (
    Add,
    AtLeast,
    Exclusive,
    Include,
    Override,
    Share,
    Subtract,
    target,
    without_each,
)
from vfio_hooks.steps import Step

SHARED = File("/sys/shared")
GPU = Step("pci", PciDriver("0000:04:00.0"), Exclusive("vfio-pci (override vfio-pci)"))
# As version 0.1.0 wrote it.
OLD = """\
{"record":"begin","event":"prepare","vm":"old","number":1,"journal":1}
{"record":"claim","number":1,"event":"prepare","time":1.5,"step":{"plugin":"irqs","knob":\
{"kind":"irq","number":24},"share":{"kind":"subtract","cpus":"4-7","spare":["0-3"]},\
"until":"stopped"},"base":"0-7"}
{"record":"held","number":1,"goal":null}
{"record":"end"}
"""


class Memory(Disk):
    """Files in memory, and how often they were written."""

    def __init__(self) -> None:
        super().__init__()
        self.data = b""
        self.writes = 0

    def append(self, path: str, lines: bytes) -> None:
        self.writes += 1
        self.data += lines


def hold(folder: StateFolder, number: int, claims: int) -> None:
    """Have a VM hold as many values of its own, and one that all share."""
    journal = folder.create(other(number), f"vm{number}")
    first = number * 1000
    journal.begin("prepare", first)
    for count in range(claims):
        knob = File(f"/sys/{number}/{count}") if count else SHARED
        claim = journal.claim(first + count, "prepare", 0, Step("p", knob, Override("1")), "0")
        journal.mark(claim, State.HELD)
    journal.end()


@pytest.fixture
def crowd(memory: Path) -> StateFolder:
    folder = StateFolder(str(memory))
    for number in range(5):
        hold(folder, number, 100)
    return folder


@pytest.fixture
def understood(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The records of journals that have been understood."""
    records: list[Any] = []
    loads = json.loads

    def counted(text: Any) -> Any:
        records.append(loads(text))
        return records[-1]

    monkeypatch.setattr("json.loads", counted)
    yield records


def test_of_other_vms_only_what_is_shared_is_understood(
    crowd: StateFolder, understood: list[Any]
) -> None:
    ledger = Ledger(crowd)
    assert [record["record"] for record in understood] == ["end", "begin"] * 5
    assert ledger.next_number() == 4100
    understood.clear()
    assert ledger.on("/sys/not-theirs") == []
    assert understood == []
    assert [claim.vm for claim in ledger.on(SHARED.key)] == [f"vm{number}" for number in range(5)]
    assert sorted(record["record"] for record in understood) == ["claim"] * 5 + ["held"] * 5
    understood.clear()
    assert len(ledger.on(SHARED.key)) == 5
    assert understood == []
    assert ledger.unfinished() == []
    assert ledger.journals == {}


def test_what_is_given_up_is_so_in_every_journal(crowd: StateFolder) -> None:
    ledger = Ledger(crowd)
    ledger.lose(SHARED.key)
    assert ledger.on(SHARED.key) == Ledger(crowd).on(SHARED.key) == []
    assert len(Ledger(crowd).on("/sys/3/1")) == 1


TEXT = st.text(st.sampled_from('k",:\\{}/\n\u2028é') | st.characters(exclude_categories=["Cs"]))
KEYS = st.sampled_from(["k", 'k"', 'k,"number":1', '{"record":"claim","key":"k"', "k\n"]) | TEXT


@settings(max_examples=200)
@given(
    st.sampled_from([0, 2, 99]),
    st.lists(st.tuples(KEYS, st.lists(st.sampled_from(list(State)[1:]), max_size=3)), max_size=8),
    TEXT,
)
def test_it_says_of_a_key_what_the_whole_journal_says(
    few: int, made: list[tuple[str, list[State]]], vm: str
) -> None:
    disk = Memory()
    journal = Journal(f"/{VICTIM}.journal", VICTIM, vm, disk)
    journal.begin("prepare", 1)
    for number, (key, marks) in enumerate(made, 1):
        claim = journal.claim(number, "prepare", 0, Step("p", File(key), Override(key)), key)
        for state in marks:
            journal.mark(claim, state, key)
    journal.end()
    found = sealed(VICTIM, disk.data)
    assert (found is None) == any(State.WAITING in marks for _, marks in made)
    if found is None:
        return
    assert found.last == len(made)
    whole = Journal.understood(journal.path, disk.data, disk)
    assert whole.claims == journal.claims
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vfio_hooks.engine.sealed.FEW", few)
        answers = {key: found.on(key) for key, _ in made}
    for key in answers:
        assert answers[key] == [one for one in whole.claims.values() if one.step.key == key]


@pytest.mark.parametrize(("few", "is_searched"), [(FEW, True), (0, False)])
def test_for_few_keys_no_index_is_made(
    monkeypatch: pytest.MonkeyPatch, few: int, is_searched: bool
) -> None:
    disk = Memory()
    journal = Journal(f"/{VICTIM}.journal", VICTIM, "vm", disk)
    journal.begin("prepare", 1)
    journal.mark(journal.claim(1, "prepare", 0, GPU, "amdgpu"), State.HELD)
    journal.end()
    monkeypatch.setattr("vfio_hooks.engine.sealed.FEW", few)
    found = sealed(VICTIM, disk.data)
    assert found
    assert [claim.state for claim in found.on(GPU.key)] == [State.HELD]
    assert ("_by_key" not in vars(found), "_marks" not in vars(found)) == (is_searched, is_searched)


def test_a_new_journal_tells_of_nothing() -> None:
    journal = Journal(f"/{VICTIM}.journal", VICTIM, "vm", Memory())
    assert (journal.event, journal.opened, journal.has_started) == (None, 0, False)
    assert (journal.names, journal.claims, journal.live()) == (set(), {}, [])


@pytest.mark.parametrize("torn", [b"", b'{"record":"cl'])
def test_a_journal_that_goes_on_is_sealed_again(memory: Path, torn: bytes) -> None:
    """By a process that has read it, with what a crash left of its last line; and once more after
    it was removed."""
    path = memory / f"{VICTIM}.journal"
    first = Journal(str(path), VICTIM, "vm", Disk())
    first.begin("prepare", 1)
    with path.open("ab") as file:
        file.write(torn)
    journal = Journal.load(str(path), Disk())
    journal.mark(journal.claim(1, "prepare", 0, GPU, "amdgpu"), State.HELD)
    journal.end()
    found = sealed(VICTIM, path.read_bytes())
    assert found
    assert [claim.state for claim in found.on(GPU.key)] == [State.HELD]
    journal.begin("start", 2)
    journal.mark(journal.claims[1], State.UNDONE)
    journal.remove()
    assert not path.exists()
    assert journal.event is None
    journal.begin("prepare", 2)
    journal.end()
    assert path.read_bytes().startswith(b'{"record":"begin","event":"prepare"')
    assert sealed(VICTIM, path.read_bytes())


@given(st.data())
def test_a_change_of_any_byte_is_noticed(data: st.DataObject) -> None:
    disk = Memory()
    journal = Journal(f"/{VICTIM}.journal", VICTIM, "vm", disk)
    journal.begin("prepare", 1)
    journal.claim(1, "prepare", 0, GPU, "amdgpu")
    journal.end()
    assert sealed(VICTIM, disk.data)
    place = data.draw(st.integers(0, len(disk.data) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != disk.data[place]))
    changed = disk.data[:place] + bytes([byte]) + disk.data[place + 1 :]
    assert sealed(VICTIM, changed) is None


@pytest.mark.parametrize(
    ("text", "instead", "told"),
    [
        ('"step":{', '"step":(', r"\.journal:2: damaged journal"),
        ('"key":"/sys/bus/pci/devices/0000:04', '"key":"/sys/bus/pci/devices/0000:07', "VM b has"),
        ('"kind":"pci-driver"', '"kind":"pci-drover"', r"\.journal:2: .* does not know"),
    ],
)
def test_damage_in_the_middle_is_found_where_a_key_is_shared(
    memory: Path, text: str, instead: str, told: str
) -> None:
    folder = StateFolder(str(memory))
    engine = Engine(a_host(), folder, Lines())
    engine.perform("prepare", other(0), "b", lambda _: [GPU])
    assert isinstance(folder.look(other(0)), Sealed)
    file = memory / f"{other(0)}.journal"
    assert text in file.read_text()
    file.write_text(file.read_text().replace(text, instead))
    with pytest.raises(HookError, match=told):
        engine.perform("prepare", VICTIM, "victim", lambda _: [GPU])


def test_a_step_of_a_newer_version_is_in_the_way_where_it_is_shared(memory: Path) -> None:
    folder, disk = StateFolder(str(memory)), Memory()
    journal = Journal(f"/{other(0)}.journal", other(0), "new", disk)
    journal.begin("prepare", 1)
    journal.claim(1, "prepare", 0, GPU, "amdgpu")
    data = disk.data.replace(b"pci-driver", b"pci-drover") + END + b"1"
    data += SUM + b'"%08x"}\n' % crc32(data)
    (memory / f"{other(0)}.journal").write_bytes(data)
    assert isinstance(folder.look(other(0)), Sealed)
    engine = Engine(a_host(), folder, Lines())
    interrupt = Step("irqs", IrqAffinity(24), Subtract("4"))
    engine.perform("prepare", VICTIM, "victim", lambda _: [interrupt])
    with pytest.raises(HookError, match="does not know"):
        engine.perform("started", VICTIM, "victim", lambda _: [GPU])


def test_a_journal_of_the_first_version_is_read_and_undone(memory: Path) -> None:
    file = memory / f"{VICTIM}.journal"
    file.write_text(OLD)
    kernel, folder = a_host(), StateFolder(str(memory))
    knob = IrqAffinity(24)
    kernel.write(knob.key, "0-3")
    assert isinstance(folder.look(VICTIM), Journal)
    engine = Engine(kernel, folder, Lines())
    engine.perform("started", VICTIM, "old", lambda _: [GPU])
    assert isinstance(folder.look(VICTIM), Journal)
    assert len(Ledger(folder).on(knob.key)) == 1
    assert engine.undo("release", VICTIM) == []
    assert knob.read(kernel) == "0-7"


def test_a_step_costs_one_write_and_an_event_one_open(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = os.open

    def counted(path: str, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_APPEND:
            opened.append(path)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", counted)
    written: list[bytes] = []

    class Counting(Disk):
        def append(self, path: str, lines: bytes) -> None:
            written.append(lines)
            super().append(path, lines)

    plan = PLANS["a whole evening"]
    engine = Engine(a_host(), StateFolder(str(memory), Counting()), Lines())
    engine.perform("prepare", VICTIM, "victim", lambda _: plan)
    assert len(written) == len(plan) + 2  # the event's begin and end
    assert len(opened) == 1
    written.clear()
    engine.undo("release", VICTIM)
    assert len(written) <= len(plan) + 1
    assert len(opened) == 2


CPUS = st.sampled_from(["4", "4-5", "5-7", "0-7", "6"])
OF_ONE_KIND = st.one_of(
    st.lists(st.builds(Subtract, CPUS, st.tuples(CPUS)), max_size=6),
    st.lists(st.builds(Include, CPUS), max_size=6),
    st.lists(st.builds(Add, st.integers(0, 9)), max_size=6),
    st.lists(st.builds(AtLeast, st.integers(0, 9)), max_size=6),
    st.lists(st.builds(Override, CPUS), max_size=6),
    st.lists(st.builds(Exclusive, st.none() | CPUS), max_size=6),
)


@settings(max_examples=300)
@given(OF_ONE_KIND)
def test_one_claim_stands_for_all_others(shares: list[Share]) -> None:
    base = "3" if shares and isinstance(shares[0], Add | AtLeast) else "0-31"
    for place, instead in enumerate(without_each(shares)):
        assert len(instead) == min(1, len(shares) - 1)
        others = [*shares[:place], *shares[place + 1 :]]
        assert target(base, instead) == target(base, others)
