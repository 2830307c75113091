"""`check --fix`: better XML, the rest of it untouched, and nothing left to fix."""

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from tests.command import Command
from tests.defects import DEFECTS, GOOD, edited, write
from tests.hosttree import guides_host
from tests.test_check_domain import AREAS, GUIDE, OLD
from vfio_hooks.check import examine
from vfio_hooks.check.fixing import mend
from vfio_hooks.check.rule import Guest, Patient
from vfio_hooks.domain import parse
from vfio_hooks.domain.text import element
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths

SCHEMA = "/usr/share/libvirt/schemas/domain.rng"
BROKEN = [edits for _, edits, change in DEFECTS if edits and not change]


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Patient:
    root = str(guides_host(tmp_path_factory.mktemp("host")))
    return Patient(Host(root), Paths(config=root))


@pytest.fixture(scope="module")
def schema() -> etree.RelaxNG:
    """What libvirt takes, as its own package says it."""
    return etree.RelaxNG(etree.parse(SCHEMA))


def mended(patient: Patient, xml: str) -> str:
    """The better XML; mending it once more changes nothing."""
    fixed = mend(patient, xml.encode())
    assert fixed.left == ()
    again = mend(patient, fixed.after)
    assert again.after == fixed.after
    assert again.names == ()
    return fixed.after.decode()


def test_a_good_domain_stays_byte_for_byte(patient: Patient) -> None:
    for text in (GOOD, "\n" + GOOD.rstrip(), "<?xml version='1.0'?>\n<!-- mine -->\n" + GOOD):
        fixed = mend(patient, text.encode())
        assert (fixed.after.decode(), fixed.names) == (text, ())


@pytest.mark.parametrize("edits", BROKEN, ids=str)
def test_a_mended_defect_is_gone(edits: Any, patient: Patient, schema: etree.RelaxNG) -> None:
    bad = edited(edits)
    good = mended(patient, bad)
    if schema.validate(element(bad.encode())):
        assert schema.validate(element(good.encode())), schema.error_log


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(BROKEN), max_size=8, unique_by=str))
def test_any_defects_together(patient: Patient, some: list[Any]) -> None:
    xml = GOOD
    for edits in some:
        # Another one may have taken away what this one breaks, or declared the same namespace.
        with suppress(AssertionError, HookError):
            worse = edited(edits, xml)
            parse(worse.encode())
            xml = worse
    mended(patient, xml)


def test_what_a_host_calls_for_is_valid_too(tmp_path: Path, schema: etree.RelaxNG) -> None:
    root = guides_host(tmp_path)
    write("sys/module/kvm_amd/parameters/avic", "Y")(root)
    good = mended(Patient(Host(str(root)), Paths(config=str(root))), GOOD)
    assert "<avic state='on'/>" in good
    assert schema.validate(element(good.encode())), schema.error_log


def test_a_device_that_nobody_binds_is_left_to_libvirt(tmp_path: Path) -> None:
    root = guides_host(tmp_path)
    (root / "sys/bus/pci/devices/0000:45:00.1/driver").unlink()
    bad = GOOD.replace("managed='yes'", "managed='no'")
    patient = Patient(Host(str(root)), Paths(config=str(root)))
    fixed = mend(patient, bad.encode())
    assert (fixed.names, fixed.left) == (("device-not-managed",), ())
    # The others are bound to vfio-pci already, whoever did that.
    assert [one.managed for one in parse(fixed.after).pci] == [False, True, False]


def test_what_is_not_mended_stays_as_it_was_written(patient: Patient) -> None:
    bad = edited((("memballoon model='none'", "memballoon model='virtio'"),)).replace(
        "<acpi/>", "<!-- don't -->\n    <acpi />  "
    )
    bad = bad.replace("<name>good</name>", "<name>good</name>\n  <title>a &quot;b&apos;</title>")
    assert mended(patient, bad) == bad.replace(
        "model='virtio'/>\n  </dev", "model='none'/>\n  </dev"
    )


def test_new_elements_are_indented_as_their_neighbours(patient: Patient) -> None:
    bad = edited(
        ((r"/<features>(?s:.)*?</features>/", ""), (r"/<numatune>(?s:.)*?</numatune>/", ""))
    )
    text = mended(patient, bad)
    assert "\n  <numatune>\n    <memory mode='strict' nodeset='1'/>\n  </numatune>\n" in text
    assert "\n      <stimer state='on'>\n        <direct state='on'/>\n      </stimer>\n" in text
    lines = text.splitlines()
    for number, line in enumerate(lines):
        depth = (len(line) - len(line.lstrip())) // 2
        assert len(line) - len(line.lstrip()) == depth * 2, (number, line)
    assert text.index("<features>") < text.index("<cpu ") < text.index("<clock")


def test_xml_on_one_line_and_attributes_on_their_own(patient: Patient) -> None:
    mended(patient, OLD)
    mended(patient, OLD.replace("\n", ""))
    mended(patient, GOOD.replace("<emulatorpin ", "<emulatorpin\n").replace("migratable='off'", ""))


def test_a_cards_functions_come_together_on_a_port_of_their_own(patient: Patient) -> None:
    root = element(mended(patient, GUIDE).encode())
    places = {
        host.get("function"): (place.get("bus"), place.get("slot"), place.get("function"))
        for device in root.iterfind("devices/hostdev")
        if (host := device.find("source/address")) is not None and host.get("bus") == "0x45"
        if (place := device.find("address")) is not None
    }
    assert places == {f"0x{n}": ("0x11", "0x00", f"0x{n}") for n in range(4)}


def test_a_new_port_is_made_where_none_is_free(patient: Patient) -> None:
    bad = GOOD.replace(
        "type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'",
        "type='pci' domain='0x0000' bus='0x00' slot='0x05' function='0x0'",
    ).replace("    <controller type='pci' index='3' model='pcie-root-port'/>\n", "")
    root = element(mended(patient, bad).encode())
    ports = [one.get("index") for one in root.iterfind("devices/controller")]
    assert ports == ["0", "1", "2"]
    bad = bad.replace("    <controller type='pci' index='1' model='pcie-root-port'/>\n", "")
    text = mended(patient, bad)
    assert "<controller type='pci' index='3' model='pcie-root-port'/>" in text


# Bad input: whatever is missing or garbled, there is a finding, a clear error, or nothing.

GARBAGE = st.sampled_from(
    ["", "x", "-1", "0x", "08", "99999999999999999999", "1-", "²", "on", "None", "'", "&lt;", "0"]
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_garbled_domains_never_break_it(patient: Patient, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from([GOOD, GUIDE, OLD]))
    root = etree.fromstring(base.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        every = [one for one in root.iter("*") if one is not root]
        if not every:
            break
        one = every[data.draw(st.integers(0, len(every) - 1))]
        what = data.draw(st.sampled_from(["drop", "empty", "attribute", "lose", "text", "double"]))
        if what == "drop":
            parent = one.getparent()
            assert parent is not None
            parent.remove(one)
        elif what == "empty":
            for below in list(one):
                one.remove(below)
        elif what == "text":
            one.text = data.draw(GARBAGE)
        elif what == "double":
            one.addnext(etree.fromstring(etree.tostring(one, with_tail=False)))
        elif one.attrib:
            name = data.draw(st.sampled_from(sorted(one.attrib)))
            if what == "lose":
                del one.attrib[name]
            else:
                one.set(name, data.draw(GARBAGE))
    text = etree.tostring(root)
    try:
        guest = Guest(parse(text), element(text))
    except HookError as error:
        assert "\n" not in str(error)
        return
    found = examine(Patient(patient.host, patient.paths, guest), areas=AREAS)
    assert all(one.seen.text and one.seen.advice for one in found)
    fixed = mend(patient, text)
    assert parse(fixed.after).name == guest.domain.name


# The command.


def xml_file(folder: Path, text: str = "") -> Path:
    path = folder / "vm.xml"
    path.write_text(text or GOOD.replace("memballoon model='none'", "memballoon model='virtio'"))
    return path


@pytest.fixture
def fixing(command: Command, tmp_path: Path) -> Command:
    guides_host(tmp_path / "guides")
    command.host = tmp_path / "guides"
    return command


def test_a_captured_host_has_no_libvirt_to_tell(fixing: Command, tmp_path: Path) -> None:
    there = fixing.host / "etc/libvirt/qemu/win11.xml"
    there.parent.mkdir(parents=True)
    there.write_text(xml_file(tmp_path).read_text())
    done = fixing.here("check", "good", "--fix")
    assert (done.code, done.out) == (1, "")
    assert "--fix with --root cannot change libvirt's XML; give a file: --xml FILE" in done.err


def test_nobody_to_ask_changes_nothing(fixing: Command, tmp_path: Path) -> None:
    path = xml_file(tmp_path)
    before = path.read_text()
    done = fixing.here("check", "--xml", str(path), "--fix")
    assert done.code == 1
    assert "+    <memballoon model='none'/>\n" in done.out
    assert "for: memory-balloon\n" in done.out
    assert done.err.endswith(" There is no terminal to ask on; add --yes\n")
    assert path.read_text() == before
    assert len(list(tmp_path.glob("vm*"))) == 1


def test_yes_writes_it_and_keeps_what_was(fixing: Command, tmp_path: Path) -> None:
    path = xml_file(tmp_path)
    before = path.read_text()
    assert fixing.here("check", "--xml", str(path), "--fix", "--yes").code == 0
    assert path.read_text() == GOOD
    (kept,) = tmp_path.glob("vm-*.xml")
    assert kept.read_text() == before
    assert stat.S_IMODE(os.stat(kept).st_mode) == 0o600
    again = fixing.here("check", "--xml", str(path), "--fix", "--yes")
    assert (again.code, again.out) == (0, "nothing in the XML needs to be fixed\n")
    assert len(list(tmp_path.glob("vm-*.xml"))) == 1


def test_what_is_silenced_is_left(fixing: Command, tmp_path: Path) -> None:
    fixing.manage("good", '[check]\nsilence = ["memory-balloon"]\n')
    path = xml_file(tmp_path)
    done = fixing.here("check", "--xml", str(path), "--fix", "--yes")
    assert done.out == "nothing in the XML needs to be fixed\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--fix",), "--fix needs a VM"),
        (("--fix", "--json", "--xml", "FILE"), "does not work with --json"),
        (("--fix", "--xml", "-"), "--fix cannot write standard input"),
    ],
)
def test_what_cannot_be_fixed(
    words: tuple[str, ...], told: str, fixing: Command, tmp_path: Path
) -> None:
    path = xml_file(tmp_path)
    argv = [str(path) if word == "FILE" else word for word in words]
    done = fixing.here("check", *argv, stdin=path.read_bytes())
    assert done.code == 1
    assert told in done.err
    assert done.err.count("\n") == 1
