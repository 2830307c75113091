"""The host as it will be when a VM's changes are undone, which a plan is made from."""

from pathlib import Path

import pytest

from vfio_hooks.domain import Domain
from vfio_hooks.engine.journal import State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import preview
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.engine.undone import UndoneHost
from vfio_hooks.event import Event
from vfio_hooks.host.mdev import type_of, types_folder
from vfio_hooks.knobs import Command, File, Knob, PciDriver
from vfio_hooks.knobs.mediated import ABSENT, Mediated
from vfio_hooks.plugins import mdev
from vfio_hooks.sharing import Exclusive, Override, Run, Share
from vfio_hooks.steps import Step

VM, OTHER = (f"00000000-0000-0000-0000-00000000000{last}" for last in "ab")
SWAP, STAT = File("/proc/sys/vm/swappiness"), File("/proc/sys/vm/stat_interval")
CARD = PciDriver("0000:04:00.0")
LAMP = Command(("true",), ("true",))


class World:
    """A tree of files, and journals of what was done to it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "host"
        self.folder = StateFolder(str(root / "state"))
        self.folder.prepare()
        self.number = 0

    def has(self, knob: File, value: str) -> None:
        path = self.root / knob.path[1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")

    def holds(
        self, knob: Knob, share: Share, base: str, state: State = State.HELD, uuid: str = VM
    ) -> None:
        self.number += 1
        journal = self.folder.create(uuid, "vm")
        journal.begin("prepare", 1)
        claim = journal.claim(self.number, "prepare", 0, Step("test", knob, share), base)
        journal.mark(claim, state)
        journal.end()

    def undone(self) -> tuple[UndoneHost, Ledger]:
        host, ledger = UndoneHost(str(self.root)), Ledger(self.folder)
        journal = ledger.find(VM)
        assert journal
        host.undo(journal, ledger)
        assert journal.live() == []
        return host, ledger


@pytest.fixture
def world(memory: Path) -> World:
    return World(memory)


def test_values_are_those_of_before(world: World) -> None:
    world.has(SWAP, "10")
    world.has(STAT, "1")
    world.holds(SWAP, Override("10"), "60")
    host, ledger = world.undone()
    assert (SWAP.read(host), STAT.read(host)) == ("60", "1")
    assert ledger.ahead == {SWAP.key: "60"}
    assert ledger.on(SWAP.key) == []
    assert ledger.journals == {}
    assert (world.root / SWAP.path[1:]).read_text() == "10\n"


def test_claims_are_undone_newest_first(world: World) -> None:
    world.has(SWAP, "30")
    world.holds(SWAP, Override("10"), "60")
    world.holds(SWAP, Override("30"), "60")
    host, _ = world.undone()
    assert SWAP.read(host) == "60"


def test_what_other_vms_want_stays(world: World) -> None:
    world.has(SWAP, "10")
    world.holds(SWAP, Override("20"), "60", uuid=OTHER)
    world.holds(SWAP, Override("10"), "60")
    host, ledger = world.undone()
    assert SWAP.read(host) == "20"
    assert [claim.uuid for claim in ledger.on(SWAP.key)] == [OTHER]


def test_a_driver_is_known_ahead(world: World) -> None:
    device = world.root / "sys/bus/pci/devices/0000:04:00.0"
    device.mkdir(parents=True)
    (device / "driver").symlink_to("../../drivers/vfio-pci")
    (device / "driver_override").write_text("vfio-pci\n")
    world.holds(CARD, Exclusive("vfio-pci (override vfio-pci)"), "amdgpu")
    host, _ = world.undone()
    assert CARD.read(host) == "amdgpu"


def test_a_mediated_device_is_gone_and_its_room_is_free(world: World) -> None:
    uuid, parent, kind = "9f1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d71", "0000:00:02.0", "i915-GVTg_V5_4"
    knob, room = Mediated(uuid, parent), f"{types_folder(parent)}/{kind}/available_instances"
    device = world.root / knob.key[1:]
    device.mkdir(parents=True)
    (device / "mdev_type").symlink_to(f"../mdev_supported_types/{kind}")
    world.has(File(room), "0")
    world.holds(knob, Exclusive(kind), ABSENT)
    host, ledger = world.undone()
    assert (type_of(host, uuid), host.read(room)) == (None, "1")
    # So a plan makes it again.
    domain, options = Domain("vm", VM, mdevs=(uuid,)), mdev.Options()
    assert list(mdev.notes(domain, options, host)) == []
    (step,) = mdev.plan(Event("vm", "prepare"), domain, options, host)
    (change,) = preview([step], host, ledger)
    assert str(change) == f"{knob.key}: {ABSENT} → {kind}"


@pytest.mark.parametrize(
    ("share", "base", "state", "live"),
    [
        # Somebody else has set it since, before or after that was noticed.
        (Override("10"), "60", State.HELD, "99"),
        (Override("10"), "60", State.LOST, "10"),
    ],
)
def test_what_is_somebody_else_s_stays(
    world: World, share: Share, base: str, state: State, live: str
) -> None:
    world.has(SWAP, live)
    world.holds(SWAP, share, base, state)
    host, ledger = world.undone()
    assert SWAP.read(host) == live
    assert ledger.ahead == {}


def test_what_cannot_be_told_ahead_stays(world: World) -> None:
    """What was done and not set, and a value that is gone."""
    world.holds(LAMP, Run(), "")
    world.holds(SWAP, Override("10"), "60")
    _, ledger = world.undone()
    assert ledger.ahead == {}
