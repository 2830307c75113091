"""Pins in a domain's XML: what is asked for, and nothing else."""

import difflib

import pytest

from vfio_hooks.domain import parse
from vfio_hooks.domain.devices import iothread_ids
from vfio_hooks.domain.text import editable, written
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import parse_list
from vfio_hooks.placement.choice import Placement
from vfio_hooks.placement.cputune import repin

DOMAIN = """\
<domain type='kvm'>
  <name>win11</name>
  <uuid>6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11</uuid>
  <title>it&apos;s &quot;quick&quot;</title>
  <!-- it's "mine" -->
  <vcpu placement='static'>4</vcpu>
  <iothreads>2</iothreads>
{cputune}\
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <cpu mode='host-passthrough' check='none'>
    <topology sockets='1' dies='2' cores='2' threads='1'/>
  </cpu>
  <devices>
    <graphics type='vnc' passwd='a&apos;b'/>
  </devices>
</domain>
"""
OLD = """\
  <cputune>
    <shares>2048</shares>
    <vcpupin vcpu='0' cpuset='1'/>
    <!-- kept -->
    <vcpupin vcpu='7' cpuset='2'/>
    <emulatorpin cpuset='0-3'/>
  </cputune>
"""
CHOSEN = Placement((2, 3, 6, 7), 2, parse_list("0-1"), (parse_list("4"), parse_list("5")), (0,), ())
PINS = """\
    <vcpupin vcpu='0' cpuset='2'/>
    <vcpupin vcpu='1' cpuset='3'/>
    <vcpupin vcpu='2' cpuset='6'/>
    <vcpupin vcpu='3' cpuset='7'/>
    <emulatorpin cpuset='0-1'/>
    <iothreadpin iothread='1' cpuset='4'/>
    <iothreadpin iothread='2' cpuset='5'/>
"""


def changed(old: str, new: str) -> list[str]:
    lines = difflib.ndiff(old.splitlines(), new.splitlines())
    return [line for line in lines if line.startswith(("+", "-"))]


@pytest.mark.parametrize("cputune", ["", OLD])
def test_only_pins_and_cores_change(cputune: str) -> None:
    old = DOMAIN.format(cputune=cputune)
    new = repin(old.encode(), CHOSEN).decode()
    for line in PINS.splitlines():
        assert f"\n{line}\n" in new
    told = parse(new.encode())
    assert told.vcpu_pins == {number: {cpu} for number, cpu in enumerate(CHOSEN.vcpus)}
    assert told.emulator_pin == CHOSEN.emulator
    assert tuple(told.iothread_pins.values()) == CHOSEN.iothreads
    assert told.threads == 2
    rest = [line[2:] for line in changed(old, new) if "pin " not in line]
    assert [line.strip() for line in rest if "cputune" not in line] == [
        "<topology sockets='1' dies='2' cores='2' threads='1'/>",
        "<topology sockets='1' dies='1' cores='2' threads='2'/>",
    ]
    assert ("<!-- kept -->" in new) == bool(cputune)
    assert new.index("<iothreads>") < new.index("<cputune>") < new.index("<os>")
    assert repin(new.encode(), CHOSEN).decode() == new


@pytest.mark.parametrize(
    ("cells", "shape"),
    [
        (("0-3",), "cores='1' threads='2'"),
        (("0-1", "2-3"), "cores='1' threads='2'"),
        # A core would be in two nodes.
        (("0-2", "3"), "cores='2' threads='1'"),
        (("0,2", "1,3"), "cores='2' threads='1'"),
    ],
)
def test_a_guest_keeps_sockets_that_its_nodes_depend_on(cells: tuple[str, ...], shape: str) -> None:
    each = "".join(f"<cell id='{at}' cpus='{one}' memory='1'/>" for at, one in enumerate(cells))
    old = DOMAIN.format(cputune="").replace("</cpu>", f"<numa>{each}</numa></cpu>")
    new = repin(old.encode(), CHOSEN).decode()
    assert f"<topology sockets='1' dies='2' {shape}/>" in new


def test_numad_does_not_place_what_is_pinned() -> None:
    old = DOMAIN.format(cputune="").replace("placement='static'", "placement='auto'")
    assert "<vcpu placement='static'>4</vcpu>" in repin(old.encode(), CHOSEN).decode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("<iothreads>2</iothreads>", [1, 2]),
        ("<iothreads>3</iothreads><iothreadids><iothread id='2'/></iothreadids>", [1, 2, 3]),
        ("<iothreadids><iothread id='5'/></iothreadids>", [5]),
    ],
)
def test_io_threads_have_numbers(text: str, expected: list[int]) -> None:
    xml = f"<domain><name>a</name><uuid>b</uuid>{text}</domain>"
    assert iothread_ids(editable(xml.encode())) == expected


@pytest.mark.parametrize(
    "text",
    [
        DOMAIN.format(cputune=OLD),
        '<domain type="kvm">\n  <name>it\'s "a"</name>\n  <x y="it\'s"/>\n</domain>\n',
        "<?xml version='1.0'?>\n" + DOMAIN.format(cputune=""),
        "<domain type='kvm'><name>a</name><x y='1'/></domain>",
    ],
)
def test_what_is_not_edited_is_written_as_it_was(text: str) -> None:
    assert written(editable(text.encode()), text.encode()).decode() == text


@pytest.mark.parametrize("text", ["", "<domain>", "<network/>", "\0", "<!DOCTYPE a><domain/>"])
def test_what_is_no_domain_is_told(text: str) -> None:
    with pytest.raises(HookError):
        repin(text.encode(), CHOSEN)


@pytest.mark.parametrize("count", ["-1", "auto", "ä"])
def test_numbers_that_are_none_are_told_in_a_line(count: str) -> None:
    xml = DOMAIN.format(cputune="").replace("<iothreads>2<", f"<iothreads>{count}<")
    with pytest.raises(HookError, match="the pins cannot be written into the domain XML"):
        repin(xml.encode(), CHOSEN)
