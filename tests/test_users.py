"""What check finds of the faults that users make: all of them, and nothing else."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

from tests.defects import edited
from tests.users.cases import CASES
from tests.users.faults import FAULTS
from tests.users.strangers import FILES, STRANGERS, xml_of
from tests.users.styles import STYLES, Style
from vfio_hooks import PLANNED
from vfio_hooks.check import Finding, examine
from vfio_hooks.check.fixing import mend
from vfio_hooks.check.rule import Area, Guest, Patient
from vfio_hooks.cli.forecast import forecast
from vfio_hooks.cli.trial import tried
from vfio_hooks.config import of_text
from vfio_hooks.config.starter import choices, toml
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import element
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"
AREAS: tuple[Area, ...] = ("domain",)
MOST = 10


def look(root: Path, xml: str) -> tuple[Patient, list[Finding]]:
    guest = Guest(parse(xml.encode()), element(xml.encode()))
    patient = Patient(Host(str(root)), Paths(config=str(root)), guest)
    return patient, examine(patient, areas=AREAS)


def names(found: list[Finding]) -> set[str]:
    assert not [one.seen.text for one in found if "could not be looked at" in one.seen.text]
    return {one.rule.name for one in found}


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Style], Path]:
    """Makes the host of a style, once for all domains that do not change it."""

    @cache
    def make(build: Callable[[Path], object]) -> Path:
        root = tmp_path_factory.mktemp("host")
        build(root)
        return root

    return lambda style: make(style.host)


@pytest.mark.parametrize("name", STYLES)
def test_what_a_careful_user_has_is_left_alone(name: str, host: Callable[[Style], Path]) -> None:
    style = STYLES[name]
    assert names(look(host(style), style.xml)[1]) == style.left


@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(case))
def test_planted_faults_are_found_and_nothing_else(
    case: tuple[str, str, str, str], host: Callable[[Style], Path], tmp_path: Path
) -> None:
    style, faults = STYLES[case[0]], [FAULTS[name] for name in case[1:]]
    xml = edited([edit for fault in faults for edit in fault.edits], style.xml)
    changes = [fault.change for fault in faults if fault.change]
    root = tmp_path if changes else host(style)
    for change in [style.host, *changes] if changes else []:
        change(root)
    wanted = style.left.union(*(fault.found for fault in faults))
    patient, found = look(root, xml)
    assert names(found) == wanted
    assert len(found) == len(wanted), "one line for each"
    fixed = mend(patient, xml.encode())
    assert fixed.left == ()
    assert mend(patient, fixed.after).names == ()


@pytest.mark.parametrize("name", STRANGERS)
def test_what_other_tools_wrote(name: str, tmp_path: Path) -> None:
    build, wanted = STRANGERS[name]
    build(tmp_path)
    patient, found = look(tmp_path, xml_of(name).decode())
    assert names(found) == set(wanted.split())
    assert len(found) <= MOST, "one line for each, and few"
    assert mend(patient, mend(patient, xml_of(name)).after).names == ()


def test_what_several_things_share_is_said_once(tmp_path: Path) -> None:
    for name, rule, text in (
        (
            "file-server",
            "disk-io-cache",
            "the disks vdb, vdc, vdd, vde have io='native' with writeback",
        ),
        (
            "file-server",
            "disk-unstable-name",
            "names that may belong to other disks after the next boot",
        ),
        ("mixed-cores", "pins-siblings", "pinned to CPUs 12-13, which are not; so is 1 more"),
        ("file-server", "iothreads-unused", "a virtio-scsi controller have none"),
    ):
        root = tmp_path / rule
        STRANGERS[name][0](root)
        found = look(root, xml_of(name).decode())[1]
        (told,) = [one.seen.text for one in found if one.rule.name == rule]
        assert told.endswith(text)


def test_each_of_their_files_is_tried() -> None:
    assert {path.stem for path in FILES.iterdir()} == set(STRANGERS)


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    return etree.RelaxNG(etree.parse(SCHEMA))


@pytest.mark.parametrize("case", CASES, ids=lambda case: ", ".join(case))
def test_what_libvirt_takes_it_takes_mended_too(
    case: tuple[str, str, str, str], host: Callable[[Style], Path], schema: etree.RelaxNG
) -> None:
    style = STYLES[case[0]]
    xml = edited([edit for name in case[1:] for edit in FAULTS[name].edits], style.xml).encode()
    patient = Patient(Host(str(host(style))), Paths(config=str(host(style))))
    if schema.validate(element(xml)):
        assert schema.validate(element(mend(patient, xml).after)), schema.error_log


@pytest.mark.parametrize("name", STRANGERS)
def test_what_libvirt_takes_of_strangers_too(
    name: str, tmp_path: Path, schema: etree.RelaxNG
) -> None:
    STRANGERS[name][0](tmp_path)
    patient = Patient(Host(str(tmp_path)), Paths(config=str(tmp_path)))
    if schema.validate(element(xml_of(name))):
        assert schema.validate(element(mend(patient, xml_of(name)).after)), schema.error_log


@pytest.mark.parametrize("name", STYLES)
def test_what_init_writes_starts(name: str, host: Callable[[Style], Path]) -> None:
    """On hosts that lack most of what the tables need: those are left out, with the reason."""
    style = STYLES[name]
    here = Paths(f"{host(style)}/hooks", "/nonexistent", str(host(style)))
    domain = parse(style.xml.encode())
    made = tried(domain, list(choices(domain, here.host())), here)
    config = of_text(toml(domain, made), "vm.toml")
    events = [Event(domain.name, op) for op in PLANNED]
    assert forecast(domain, config, here, events).outlooks[-1].failures == ()
    assert all(one.problems for one in made if "would be refused" in one.why)


def test_every_fault_is_planted_and_has_its_source() -> None:
    assert {name for case in CASES for name in case[1:]} == set(FAULTS)
    assert all(fault.source for fault in FAULTS.values())
