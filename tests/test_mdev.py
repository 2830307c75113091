"""The mdev plugin: which devices it makes, of what, and what it leaves alone."""

import errno
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import mdev
from tests.fakes.kernel import Kernel, Lines
from vfio_hooks.config import Config
from vfio_hooks.config.tables import Table
from vfio_hooks.domain import Domain, parse
from vfio_hooks.engine import Engine, Given
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import plan_all
from vfio_hooks.knobs.mediated import ABSENT, Mediated
from vfio_hooks.plugins import load
from vfio_hooks.plugins.mdev import Options, notes, plan
from vfio_hooks.steps import Step

ONE, TWO = "9f1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d71", "0e1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d72"
GPU, OTHER = "0000:00:02.0", "0000:41:00.0"
SMALL, LARGE = "i915-GVTg_V5_4", "i915-GVTg_V5_8"
PREPARE = Event("vm", "prepare")


def a_host(*offered: tuple[str, str, int]) -> Kernel:
    kernel = Kernel()
    for parent, name, free in offered or ((GPU, SMALL, 2), (GPU, LARGE, 1)):
        mdev.add_type(kernel, parent, name, free)
    return kernel


def there(kernel: Kernel) -> dict[str, str]:
    """The type of each device that exists."""
    links = kernel.links.items()
    return {path.split("/")[-2]: kind for path, kind in links if path.startswith(mdev.DEVICES)}


def planned(kernel: Kernel, *uuids: str, **options: Any) -> list[tuple[str, str, str]]:
    """UUID, parent and type of what is to be made."""
    return told(plan(PREPARE, Domain("vm", "u", mdevs=uuids), Options(**options), kernel))


def of_tables(kernel: Kernel, *tables: dict[str, str]) -> list[tuple[str, str, str]]:
    """The same for several tables."""
    domain = Domain("vm", "u", mdevs=(ONE, TWO))
    config = Config(tuple(Table("mdev", load("mdev"), Options(**table)) for table in tables))
    return told(plan_all(PREPARE, domain, config, kernel, Lines()))


def told(steps: Iterable[Step]) -> list[tuple[str, str, str]]:
    """UUID, parent and type of each device that is made."""
    found = []
    for step in steps:
        assert isinstance(step.knob, Mediated)
        found.append((step.knob.uuid, step.knob.parent, getattr(step.share, "value", "")))
    return found


@pytest.mark.parametrize(
    ("offered", "uuids", "options", "expected"),
    [
        ((), (ONE,), {"type": SMALL}, [(ONE, GPU, SMALL)]),
        ((), (ONE, TWO), {"type": SMALL}, [(ONE, GPU, SMALL), (TWO, GPU, SMALL)]),
        ((), (ONE, TWO), {"type": LARGE, "uuid": TWO.upper()}, [(TWO, GPU, LARGE)]),
        # The same UUID twice is libvirt's to refuse.
        ((), (ONE, ONE), {"type": SMALL}, [(ONE, GPU, SMALL)]),
        # There is only one type.
        (((GPU, SMALL, 1),), (ONE,), {}, [(ONE, GPU, SMALL)]),
        (((GPU, LARGE, 1), (OTHER, SMALL, 1)), (ONE,), {"parent": OTHER}, [(ONE, OTHER, SMALL)]),
        # The first one with room.
        (((GPU, SMALL, 0), (OTHER, SMALL, 1)), (ONE,), {}, [(ONE, OTHER, SMALL)]),
        (
            ((GPU, SMALL, 1), (OTHER, SMALL, 1)),
            (ONE, TWO),
            {},
            [(ONE, GPU, SMALL), (TWO, OTHER, SMALL)],
        ),
    ],
)
def test_what_is_made_of_what(
    offered: tuple[tuple[str, str, int], ...],
    uuids: tuple[str, ...],
    options: dict[str, str],
    expected: list[tuple[str, str, str]],
) -> None:
    assert planned(a_host(*offered), *uuids, **options) == expected


def table(uuid: str, kind: str = SMALL) -> dict[str, str]:
    return {"uuid": uuid, "type": kind}


ONE_EACH = ((GPU, SMALL, 1), (GPU, LARGE, 1), (OTHER, SMALL, 1), (OTHER, LARGE, 1))


@pytest.mark.parametrize(
    ("offered", "tables", "expected"),
    [
        # The first parent has room for one, or for both.
        (ONE_EACH, (table(ONE), table(TWO)), [(ONE, GPU, SMALL), (TWO, OTHER, SMALL)]),
        (
            ((GPU, SMALL, 2), (OTHER, SMALL, 1)),
            (table(ONE), table(TWO)),
            [(ONE, GPU, SMALL), (TWO, GPU, SMALL)],
        ),
        # Those of different types may take each other's room, or may not.
        (ONE_EACH, (table(ONE), table(TWO, LARGE)), [(ONE, GPU, SMALL), (TWO, OTHER, LARGE)]),
        (
            ((GPU, SMALL, 1), (GPU, LARGE, 2), (OTHER, LARGE, 1)),
            (table(ONE), table(TWO, LARGE)),
            [(ONE, GPU, SMALL), (TWO, GPU, LARGE)],
        ),
        (ONE_EACH[:2], (table(ONE), table(TWO, LARGE)), [(ONE, GPU, SMALL), (TWO, GPU, LARGE)]),
        # The second table asks for a device of the first.
        (((GPU, SMALL, 2),), ({}, table(ONE)), [(ONE, GPU, SMALL), (TWO, GPU, SMALL)]),
    ],
)
def test_tables_share_the_room(
    offered: tuple[tuple[str, str, int], ...],
    tables: tuple[dict[str, str], ...],
    expected: list[tuple[str, str, str]],
) -> None:
    assert of_tables(a_host(*offered), *tables) == expected


@pytest.mark.parametrize(
    ("tables", "why"),
    [
        ((table(ONE), table(TWO)), f"{TWO}: there is no room for another {SMALL} of {GPU}"),
        (
            ({"type": SMALL, "uuid": ONE}, {"type": LARGE}),
            f"{ONE} is to be {SMALL} in one table and {LARGE} in another; set uuid in each",
        ),
    ],
)
def test_tables_that_cannot_have_both(tables: tuple[dict[str, str], ...], why: str) -> None:
    with pytest.raises(HookError, match=why):
        of_tables(a_host((GPU, SMALL, 1), (GPU, LARGE, 2)), *tables)


def test_only_prepare_plans() -> None:
    domain = Domain("vm", "u", mdevs=(ONE,))
    for op in ("start", "started"):
        assert not list(plan(Event("vm", op), domain, Options(type=SMALL), a_host()))


@pytest.mark.parametrize(
    ("offered", "uuids", "options", "why"),
    [
        ((), (), {}, "domain vm is given no mediated device; add a <hostdev"),
        ((), (ONE,), {"uuid": TWO}, f"domain vm has no <hostdev> of type mdev with the UUID {TWO}"),
        ((("", "", 0),), (ONE,), {}, f"{ONE}: no device of this host offers mediated devices now"),
        ((), (ONE,), {"parent": "0000:00:03.0"}, "0000:00:03.0 offers no mediated devices; did "),
        ((), (ONE,), {"type": "nvidia-63"}, "nvidia-63 is no type of any device of this host; "),
        (
            ((GPU, SMALL, 1), (OTHER, LARGE, 1)),
            (ONE,),
            {"type": SMALL, "parent": OTHER},
            f"{SMALL} is no type of {OTHER}; did you mean {LARGE}?",
        ),
        (
            (),
            (ONE,),
            {},
            f"{ONE}: there are several types to choose from: {SMALL} ({SMALL} in words), ",
        ),
        (
            (),
            (ONE, TWO),
            {"type": LARGE},
            f"{TWO}: there is no room for another {LARGE} of {GPU}; shut a VM down",
        ),
    ],
)
def test_what_is_refused(
    offered: tuple[tuple[str, str, int], ...],
    uuids: tuple[str, ...],
    options: dict[str, str],
    why: str,
) -> None:
    kernel = a_host(*offered)
    if offered == (("", "", 0),):
        kernel.files.clear()
    with pytest.raises(HookError) as refused:
        planned(kernel, *uuids, **options)
    assert str(refused.value).startswith(why)


def test_one_that_exists_is_left_alone() -> None:
    kernel = a_host()
    mdev.make(kernel, f"{mdev.PARENTS}/{GPU}/mdev_supported_types/{SMALL}/create", ONE)
    domain = Domain("vm", "u", mdevs=(ONE,))
    for options in (Options(), Options(type=SMALL)):
        assert not list(plan(PREPARE, domain, options, kernel))
        assert list(notes(domain, options, kernel)) == [
            f"{ONE} exists already ({SMALL}), so it is left alone, and stays"
        ]
    with pytest.raises(HookError) as refused:
        planned(kernel, ONE, type=LARGE)
    # virsh takes no patterns, and the name has more in it than the UUID.
    assert str(refused.value) == (
        f"{ONE} exists already, and is {SMALL} and not {LARGE}; correct type in [[mdev]], or "
        "remove the device: `virsh nodedev-list --cap mdev` shows the name that virsh "
        "nodedev-destroy takes"
    )


@pytest.mark.parametrize("shown", ["", "-", "3 free"])
def test_room_that_is_no_number_is_left_out(shown: str) -> None:
    kernel = a_host()
    file = f"{mdev.PARENTS}/{GPU}/mdev_supported_types/{SMALL}/available_instances"
    kernel.files[file] = shown
    assert file not in Mediated(ONE, GPU).foresee(kernel, SMALL)


def _planned(steps: list[Step], _: Given) -> list[Step]:
    return steps


def test_they_are_made_and_removed_and_another_vm_has_its_own(memory: Path) -> None:
    kernel, before = a_host(), a_host().state()
    engine = Engine(kernel, StateFolder(str(memory)), Lines())
    for number, uuid in enumerate((ONE, TWO)):
        domain = Domain(
            f"vm{number}", f"00000000-0000-0000-0000-00000000000{number}", mdevs=(uuid,)
        )
        steps = list(plan(PREPARE, domain, Options(type=SMALL), kernel))
        engine.perform("prepare", domain.uuid, domain.name, partial(_planned, steps))
    assert there(kernel) == {ONE: SMALL, TWO: SMALL}
    assert engine.undo("release", "00000000-0000-0000-0000-000000000000") == []
    assert there(kernel) == {TWO: SMALL}
    # Somebody else was faster.
    kernel.write(f"{mdev.DEVICES}/{TWO}/remove", "1")
    engine.undo("release", "00000000-0000-0000-0000-000000000001")
    assert kernel.state() == before
    assert not list(memory.glob("*.journal"))


class Stubborn(Kernel):
    """A host whose writes fail with this error."""

    error = errno.ETIMEDOUT

    def write_aside(self, name: str, text: str, seconds: float, title: str) -> None:
        raise OSError(self.error, os.strerror(self.error), name)


@pytest.mark.parametrize(
    ("error", "value", "why"),
    [
        (
            errno.ETIMEDOUT,
            ABSENT,
            f"{ONE}: cannot remove the mediated device within 30 s; see dmesg",
        ),
        (
            errno.ENOSPC,
            SMALL,
            f"{ONE}: cannot make a mediated device {SMALL} of {GPU}: No space left on",
        ),
    ],
)
def test_what_the_kernel_refuses(error: int, value: str, why: str) -> None:
    kernel = Stubborn()
    kernel.error = error
    with pytest.raises(HookError, match=why):
        Mediated(ONE, GPU).write(kernel, value)


def test_the_uuids_of_a_domain() -> None:
    hostdev = "<hostdev mode='subsystem' type='{}'><source><address uuid='{}'/></source></hostdev>"
    devices = hostdev.format("mdev", ONE.upper()) + hostdev.format("other", TWO)
    xml = f"<domain><name>vm</name><devices>{devices}</devices></domain>"
    assert parse(xml.encode()).mdevs == (ONE,)


@pytest.mark.parametrize("uuid", ["", "mine", ONE + "0"])
def test_a_uuid_that_is_none(uuid: str) -> None:
    with pytest.raises(ValueError, match="uuid must be like 4b20d080-"):
        Options(uuid=uuid)
