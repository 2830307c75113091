"""`vfio-hooks topology`: from files to a picture, in a terminal, as JSON and as SVG."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.command import Command
from tests.hosttree import domain_xml
from tests.shapes import SHAPES
from vfio_hooks.cli import xml
from vfio_hooks.errors import HookError

PINS = (
    "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='2'/><vcpupin vcpu='1' cpuset='3'/></cputune>"
)
OTHER = "00000000-7c5e-4d0f-9a55-3f1d2a9a7c11"


@pytest.fixture
def laptop(command: Command) -> Command:
    SHAPES["laptop"].write(command.host)
    return command


def test_domains_come_from_files(laptop: Command, tmp_path: Path) -> None:
    files = []
    for name, uuid in (("win11", OTHER[::-1].replace("-", "0")[:36]), ("linux", OTHER)):
        files += ["--xml", str(tmp_path / name)]
        (tmp_path / name).write_text(domain_xml(name, uuid, more=PINS))
    result = laptop.here("topology", *files)
    assert result.code == 0
    assert "A  linux, defined: 2 vCPUs on CPUs 2-3" in result.out
    assert "A+B" in result.out
    # With a device of both they run one after the other, so their CPUs are no matter.
    assert "of its vCPUs" not in result.out
    assert "0000:04:00.0" in result.out
    only = laptop.here("topology", *files, "linux").out
    assert "win11" not in only
    assert "A0" in only


def test_a_captured_host_has_its_own_domains(laptop: Command) -> None:
    file = laptop.host / "etc/libvirt/qemu/win11.xml"
    file.parent.mkdir(parents=True)
    file.write_text("<!-- made by libvirt -->\n" + domain_xml(more=PINS))
    (file.parent / "networks").mkdir()
    result = laptop.here("topology", "--json")
    assert [vm["name"] for vm in result.json["vms"]] == ["win11"]
    (socket,) = result.json["sockets"]
    cpu = socket["nodes"][0]["groups"][0]["cores"][1][0]
    assert (cpu["number"], cpu["seats"][0]["vcpus"]) == (2, [0])
    assert laptop.here("topology", "win12").err == (
        "vfio-hooks: there is no domain win12; did you mean win11?\n"
    )
    assert laptop.here("topology", "debian").err.endswith("; there is: win11\n")


def test_an_svg_is_written(laptop: Command, tmp_path: Path) -> None:
    result = laptop.here("topology", "--svg", str(tmp_path / "host.svg"))
    assert (result.code, result.err) == (0, "")
    assert ElementTree.parse(tmp_path / "host.svg").getroot().tag.endswith("svg")
    result = laptop.here("topology", "--svg", str(tmp_path / "none/host.svg"))
    assert (result.code, result.out) == (1, "")
    assert "none/host.svg: cannot be written: No such file" in result.err


def test_without_libvirt_the_host_is_drawn_all_the_same(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str) -> list[tuple[bytes, bool]]:
        raise HookError("libvirt at qemu:///system: no socket", "is libvirtd running?")

    monkeypatch.setattr(xml, "all_from_libvirt", refuse)
    result = command("topology")
    assert result.code == 0
    assert "node 0" in result.out
    note, *rest = result.out.splitlines()
    assert note == "note: libvirt at qemu:///system: no socket; is libvirtd running?"
    assert "no VM is defined here" not in rest
    assert command("topology", "--json").json["notes"]
    named = command("topology", "win11")
    assert (named.code, named.out, named.err) == (1, "", f"vfio-hooks: {note[6:]}\n")


def test_a_host_without_vms_says_so(laptop: Command) -> None:
    assert laptop.here("topology").out.startswith("no VM is defined here\n")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "cannot be read"),
        ("<network/>", "the XML is a <network>, not a <domain>"),
        ("<domain type='xen'><uuid>b</uuid></domain>", "no <name>"),
    ],
)
def test_xml_that_is_no_domain_is_told(
    laptop: Command, tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "file.xml").write_text(text)
    result = laptop.here("topology", "--xml", str(tmp_path / "file.xml"))
    assert (result.code, result.out) == (1, "")
    assert problem in result.err
    assert "defect" not in result.err


def test_a_host_without_a_cpu_is_told(command: Command) -> None:
    result = command.here("topology")
    assert (result.code, result.out) == (1, "")
    assert "has no CPU" in result.err
