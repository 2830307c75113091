"""The likeness of a host: QEMU's arguments, where each function is in it, and what is reported."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import vfio_hooks
from tests.command import Command
from tests.hosttree import add_cpus, add_pci, domain_xml
from tests.test_topology import Unpacked, captured
from vfio_hooks.cli.likeness import emulated_host, told
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.rehearse.likeness import Likeness, likeness
from vfio_hooks.rehearse.likeness.addresses import named, translated
from vfio_hooks.rehearse.likeness.processors import MOST, processors

__all__ = ["captured"]

pytestmark = pytest.mark.real_processes

ROOT = Path(vfio_hooks.__path__[0]).parent
CARD = ("0000:0a:00.0", "0000:0a:00.1")
SECOND = ("0000:41:00.0", "0000:41:00.1", "0000:41:00.3")
PF = "0000:06:00.0"
PINS = (
    "<memory unit='GiB'>8</memory><vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='2'/>"
    "<vcpupin vcpu='1' cpuset='6'/><emulatorpin cpuset='0,4'/></cputune>"
)


def put(root: Path, address: str, **files: str) -> None:
    for name, text in files.items():
        (root / "sys/bus/pci/devices" / address / name).write_text(f"{text}\n")


def single(root: Path, cores: int = 4) -> Path:
    """One node, one graphics card, which is the one that the host boots with; a network card."""
    add_cpus(root, nodes=1, cores=cores, threads=2)
    add_pci(root, "0000:00:01.0", "pcieport", "1", "0x060400")
    add_pci(root, CARD[0], "nvidia", "14")
    add_pci(root, CARD[1], "snd_hda_intel", "14", "0x040300")
    add_pci(root, "0000:05:00.0", "e1000e", "8", "0x020000")
    put(root, CARD[0], boot_vga="1", resource="0xd0000000 0xdfffffff 0x200")
    return root


def double(root: Path) -> Path:
    """Two nodes, a graphics card on each, and a network card with SR-IOV; its interface has a
    name."""
    add_cpus(root, nodes=2, cores=2, threads=2, per_l3=2)
    for address, group, node in (
        *((one, "20", 0) for one in CARD),
        *((one, "31", 1) for one in SECOND),
    ):
        kind = {"0": "0x030000", "1": "0x040300", "3": "0x0c8000"}[address[-1]]
        driver = {"0": "nvidia", "1": "snd_hda_intel", "3": None}[address[-1]]
        add_pci(root, address, driver, group, kind)
        put(root, address, numa_node=str(node))
    put(root, CARD[0], boot_vga="1")
    add_pci(root, PF, "igb", "9", "0x020000")
    put(root, PF, numa_node="0", sriov_numvfs="0", sriov_offset="128", sriov_stride="2")
    (root / f"sys/bus/pci/devices/{PF}/net/enp6s0").mkdir(parents=True)
    return root


def planned(
    root: Path, *functions: str, texts: Mapping[str, str] | None = None, more: str = PINS
) -> Likeness:
    xml = domain_xml(functions=functions, more=more).encode()
    return likeness(Host(str(root)), xml, parse(xml), texts or {})


def test_a_single_card(tmp_path: Path) -> None:
    plan = planned(single(tmp_path), *CARD)
    assert plan.wrong == ()
    assert plan.addresses == {
        "0000:05:00.0": "0000:04:00.0",
        CARD[0]: "0000:05:00.0",
        CARD[1]: "0000:05:00.1",
    }
    words = " ".join(plan.words)
    assert "VGA,id=d5f0,bus=port5,addr=0.0,multifunction=on" in words
    assert "disable-acs" not in words and "pxb" not in words
    assert [one.address for one in parse(plan.xml).pci] == ["0000:05:00.0", "0000:05:00.1"]


def test_two_nodes(tmp_path: Path) -> None:
    """The cards are on their nodes, and threads on the CPUs that are the host's there."""
    plan = planned(double(tmp_path), *SECOND, "0000:06:10.2")
    cpus = plan.processors
    assert (cpus.sockets * cpus.nodes_per_socket, cpus.cores, cpus.threads) == (2, 2, 2)
    assert [cpus.cpus[cpu] for cpu in (0, 4, 2, 6)] == [0, 1, 4, 5]
    assert plan.addresses[SECOND[0]] == "0000:61:00.0"
    assert plan.addresses[PF] == "0000:41:00.0"
    assert plan.addresses["0000:06:10.2"] == "0000:41:10.2"
    assert plan.wrong == ()
    domain = parse(plan.xml)
    assert domain.vcpu_pins == {0: {4}, 1: {5}}
    assert domain.emulator_pin == frozenset({0, 1})
    assert domain.memory == 256 << 10
    assert {placed.wanted.interface for placed in plan.placed} == {None, "enp6s0"}
    assert "0000:41:00.3 (no driver, 1002:73bf): nothing of its class (0x0c8000)" in plan.lost


def test_a_group_of_two_cards_is_one_there(tmp_path: Path) -> None:
    """It is reported at once that the host's network card is in it."""
    root = single(tmp_path)
    add_pci(root, "0000:0b:00.0", "r8169", "14", "0x020000")
    plan = planned(root, *CARD)
    ports = [word for word in plan.words if word.startswith("pcie-root-port")]
    assert [("disable-acs=on" in port) for port in ports] == [False, True, True]
    assert [re.sub(".*addr=", "", port) for port in ports] == ["0x4.0", "0x5.0", "0x5.1"]
    assert plan.wrong == (
        f"{CARD[0]}: IOMMU group 14 has 0000:0b:00.0 (r8169, 1002:73bf), which stays with the host",
    )


def test_an_address_that_has_moved(tmp_path: Path) -> None:
    plan = planned(single(tmp_path), "0000:0b:00.0", *CARD)
    assert plan.wrong == (
        "0000:0b:00.0: the VM is given this function, but the host does not have it",
    )
    assert plan.addresses["0000:0b:00.0"] == "0000:ff:01.0"
    assert next(told(plan)) == f"wrong: {plan.wrong[0]}"


def test_a_framebuffer_on_the_card(tmp_path: Path) -> None:
    root = single(tmp_path)
    (root / "proc/iomem").write_text("d0000000-d07fffff : BOOTFB\n")
    plan = planned(root, *CARD)
    assert plan.wrong == (f"{CARD[0]} (nvidia, 1002:73bf): BOOTFB uses its memory",)
    words = " ".join(plan.words)
    assert "cirrus-vga,id=d5f0,bus=port5" in words and " VGA," not in words
    assert "vga=0x317" in plan.kernel and planned(root, CARD[1]).kernel == plan.kernel


def test_what_a_driver_calls_its_memory_is_not_wrong(tmp_path: Path) -> None:
    """As /proc/iomem has it of a sound card and of a USB controller, which is used by two."""
    root = single(tmp_path)
    put(root, CARD[1], resource="0xf7080000 0xf7083fff 0x40200")
    claims = "f7080000-f7083fff : ICH HD audio\nf7081000-f7081fff : intel_xhci_usb_sw\n"
    (root / "proc/iomem").write_text(claims)
    assert planned(root, *CARD).wrong == ()


def test_without_a_framebuffer_the_kernel_sets_none_up(tmp_path: Path) -> None:
    assert planned(single(tmp_path), *CARD).kernel == ()


def test_an_iommu_that_is_off(tmp_path: Path) -> None:
    add_cpus(tmp_path, nodes=1)
    add_pci(tmp_path, CARD[0], "nvidia", None)
    plan = planned(tmp_path, CARD[0])
    assert plan.wrong == (
        f"{CARD[0]} (nvidia, 1002:73bf): it is in no IOMMU group: the IOMMU is off",
    )


@pytest.mark.parametrize(
    ("group", "report", "code", "verdict"),
    [
        ("14", ["1: verdict: equal"], 0, "win11: start and undo exact"),
        ("14", ["1: verdict: it differs"], 1, "win11: not exact, as told above"),
        ("14", [], 1, "win11: not exact, as told above"),
        (None, ["1: verdict: equal"], 1, "win11: start and undo exact there, but it cannot start"),
        (None, ["1: verdict: it differs"], 1, "win11: not exact, as told above"),
    ],
)
def test_the_verdict(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    group: str | None,
    report: list[str],
    code: int,
    verdict: str,
) -> None:
    """An IOMMU that is off cannot be imitated."""

    class Rehearsed:
        def rehearse(self, *_: object) -> list[str]:
            return report

    root = command.host.parent / "other"
    add_cpus(root, nodes=1, cores=4, threads=2)
    add_pci(root, CARD[0], "nvidia", group)
    xml = root / "win11.xml"
    xml.write_text(domain_xml(functions=CARD[:1], more=PINS))
    command.manage("win11")
    monkeypatch.setattr("vfio_hooks.cli.likeness.emulated_host", Rehearsed)
    words = ["--host", str(root), "--config-dir", str(command.hooks), "--yes"]
    result = command("rehearse", str(xml), *words)
    assert result.code == code
    assert result.out.splitlines()[-1].startswith(verdict)


def test_what_the_domain_cannot_have_is_told(tmp_path: Path) -> None:
    more = "<vcpu>2</vcpu><memory>1</memory><features><hyperv/></features><clock offset='utc'/>"
    xml = domain_xml(functions=CARD, more=more).replace(
        "</devices>",
        "<disk/><hostdev mode='subsystem' type='usb'><source/></hostdev></devices>",
    )
    plan = likeness(Host(str(single(tmp_path))), xml.encode(), parse(xml.encode()), {})
    assert "win11: its <disk>" in plan.lost
    assert "win11: a <hostdev> of type usb" in plan.lost
    text = plan.xml.decode()
    assert "usb'" not in text and "hyperv" not in text and "<clock" not in text


SHAPES = {
    "16amd64-8n2c": (8, 2, 1, 16),
    "16em64t-4s2c2t-offlines": (1, 12, 1, 12),
    "20em64t-hybrid-1p6c2t+2ca4co1t": (1, 16, 1, 16),
    "32em64t-2n8c+dax+nvme+mic+dimms": (2, 8, 1, 16),
    "64amd64-4s2n4ca2co": (8, 1, 2, 16),
}
"""NUMA nodes, cores of each, SMT siblings, and all CPUs."""


@pytest.mark.parametrize("name", SHAPES)
def test_the_processors_of_captured_hosts(name: str, captured: Unpacked) -> None:
    found = processors(Host(str(captured(name))), frozenset())
    nodes = found.sockets * found.nodes_per_socket
    assert (nodes, found.cores, found.threads, len(found.cpus)) == SHAPES[name]
    assert sorted(found.cpus.values()) == list(range(len(found.cpus)))
    assert nodes * found.cores * found.threads == len(found.cpus) <= MOST


def test_of_many_cpus_the_pinned_ones_are_there(tmp_path: Path) -> None:
    host = Host(str(add_cpus(tmp_path, nodes=2, cores=16, threads=2)))
    pinned = frozenset({20, 52, 21, 53})
    found = processors(host, pinned)
    assert pinned <= found.cpus.keys() and len(found.cpus) == MOST
    assert found.lost[0].startswith("16 of its 64 CPUs are there: ")


@pytest.mark.parametrize(
    "text",
    [
        'functions = ["{}"]',
        "virsh nodedev-detach pci_{_}",
        "lspci -s {short} -v",
        "#{}\n{}",
        "{}: gone",
    ],
)
def test_addresses_in_texts(text: str) -> None:
    """They are translated there and back, each in the notation that it had."""

    def filled(address: str) -> str:
        plain = text.replace("{_}", re.sub("[:.]", "_", address))
        return plain.replace("{short}", address[5:]).replace("{}", address)

    old, new = "0000:0a:00.1", "0000:61:00.0"
    assert named(filled(old)) == {old}
    assert translated(filled(old), {old: new}) == filled(new)
    assert translated(translated(filled(old), {old: new}), {new: old}) == filled(old)


@pytest.mark.parametrize("text", ["52:54:00:0a:00:01", "10:0a:00.123", "0000:0a:00.1:1", "0a_00.1"])
def test_what_only_looks_like_an_address(text: str) -> None:
    assert named(text) == frozenset() or "0a:00.1" not in text
    assert translated(text, {"0000:0a:00.1": "0000:61:00.0"}) == text


def test_root_runs_nothing_out_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests/vm").mkdir(parents=True)
    (tmp_path / "tests/vm/likeness.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(vfio_hooks, "__path__", ["/usr/lib/vfio-hooks/vfio_hooks"])
    with pytest.raises(HookError, match="the emulated host is not here"):
        emulated_host()


def test_without_debians_package_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vfio_hooks.cli.likeness.find", lambda _: None)
    with pytest.raises(HookError, match="made of Debian's packages, and there is no apt-get here"):
        emulated_host()


def test_a_python_without_lxml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As Debian's has it before anything is installed."""
    root = single(tmp_path)
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(HookError, match=r"lxml cannot be imported by .*; install python3-lxml"):
        planned(root, *CARD)


def test_an_installed_program_brings_the_emulated_host(tmp_path: Path) -> None:
    """Its modules are imported from there, with nothing else in reach, and share what is there.
    None is missing and none too many."""
    install = [str(ROOT / "install.sh"), "--destdir", str(tmp_path), "--prefix", "/usr"]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    library = next((tmp_path / "usr/lib/vfio-hooks").glob("*/vfio_hooks")).parent
    program = f"""
import sys
sys.path.insert(0, {str(library)!r})
from vfio_hooks.cli.likeness import emulated_host
found = emulated_host()
from tests.vm.machine import CHECKOUT
print(found.__file__, CHECKOUT)
print(*(one.__file__ for name, one in sys.modules.items() if name.split(".")[0] == "tests"))
"""
    told = subprocess.run(
        ["/usr/bin/python3", "-IB", "-c", program], capture_output=True, text=True, timeout=60
    )
    assert told.returncode == 0, told.stderr
    first, modules = told.stdout.splitlines()
    assert first == f"{library}/installer/tests/vm/likeness.py {library}"
    assert set(modules.split()) == set(map(str, library.glob("installer/tests/**/*.py")))
    again = [str(library / "installer/install.sh"), "--destdir", str(tmp_path / "again")]
    subprocess.run(again, check=True, capture_output=True, timeout=120)
    there = next((tmp_path / "again/usr/local/lib/vfio-hooks").glob("*/vfio_hooks")).parent
    assert there.name == library.name
