"""Hosts of which there is a snapshot, emulated: a VM is rehearsed there, and what somebody has set
up wrong is told."""

from __future__ import annotations

import re
import shlex
from base64 import b64decode
from pathlib import Path

import pytest

from tests.hosttree import add_pci, domain_xml
from tests.test_likeness import CARD, PF, PINS, SECOND, double, single
from tests.vm import likeness
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import GPU_GROUP
from tests.vm.lending import given, managed_vm
from tests.vm.likeness import state
from vfio_hooks.cli import main
from vfio_hooks.cli.likeness import EXACT
from vfio_hooks.host import Host
from vfio_hooks.snapshot.archive import pack
from vfio_hooks.snapshot.files import entries

pytestmark = [pytest.mark.vm, pytest.mark.matrix_only]

TOML = "[pci]\n[cpus]\n[irqs]\n[governor]\n"
ARCHIVE = "host.tar.xz"
FRAMEBUFFERS = """\
import sys
sys.path.append("/src")
from vfio_hooks.host import Host
from vfio_hooks.host.framebuffer import firmware_framebuffers
print(*firmware_framebuffers(Host(), "0000:05:00.0"))
"""
"""Prints what draws on the card in the likeness."""
FEW = PINS.replace("'2'/>", "'1'/>").replace("'6'/>", "'3'/>").replace("'0,4'", "'0,2'")
"""On a host of two cores, each with two threads."""
SRIOV = '[[sriov]]\npf = "enp6s0"\nnumvfs = 2\n'


def rehearse(tmp_path: Path, root: Path, *functions: str, toml: str = TOML, pins: str = FEW) -> int:
    """The exit code of the verb, for a VM with these functions."""
    pack(str(tmp_path / ARCHIVE), entries(Host(str(root))))
    xml = tmp_path / "win11.xml"
    xml.write_text(domain_xml(functions=functions, more=pins))
    return rehearse_archive(tmp_path, str(xml), toml=toml)


def rehearse_archive(tmp_path: Path, *vm: str, toml: str = TOML) -> int:
    """The same, in a host of which the snapshot is there; its only domain, if none is named."""
    folder = tmp_path / "hooks/qemu.d/win11"
    folder.mkdir(parents=True)
    (folder / "vm.toml").write_text(toml)
    words = ["rehearse", "--host", str(tmp_path / ARCHIVE), *vm, "--rounds", "1", "--yes"]
    return main([*words, "--config-dir", str(tmp_path / "hooks")])


def host(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


def is_exact(code: int, told: str) -> None:
    """And other programs have used the devices all the while."""
    assert code == 0 and told.endswith(f"win11: {EXACT}\n"), told
    times = re.findall(r"(\d+) times", told.partition("meanwhile, ")[2])
    assert len(times) == 4 and all(map(int, times)), told


def test_a_single_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = rehearse(tmp_path, single(host(tmp_path), cores=2), *CARD, toml=f"{TOML}[gpu]\n")
    is_exact(code, capsys.readouterr().out)


def test_two_nodes_and_a_virtual_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = double(host(tmp_path))
    code = rehearse(tmp_path, root, *SECOND, "0000:06:10.2", toml=TOML + SRIOV, pins=PINS)
    told = capsys.readouterr().out
    is_exact(code, told)
    assert f"{PF} (igb, 1002:73bf) is 0000:41:00.0 there (igb)" in told


def test_the_emulated_hosts_own_snapshot(
    hooked: Guest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vm = Domain("win11", given(*GPU_GROUP), vcpus=2, pins={0: "4", 1: "5"}, emulator_pin="0-1")
    with managed_vm(hooked, vm, TOML):
        hooked.run(f"vfio-hooks snapshot /tmp/{ARCHIVE} --vm {vm.name}")
        packed = hooked.run(f"base64 /tmp/{ARCHIVE}; rm /tmp/{ARCHIVE}").stdout
    (tmp_path / ARCHIVE).write_bytes(b64decode(packed))
    code = rehearse_archive(tmp_path)
    told = capsys.readouterr().out
    is_exact(code, told)
    assert "wrong: " not in told


def test_an_address_that_has_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse(tmp_path, single(host(tmp_path), cores=2), CARD[0], "0000:0b:00.1") == 1
    told = capsys.readouterr().out
    assert told.startswith("wrong: 0000:0b:00.1: the VM is given this function, but the host")
    assert "it does not start: " in told and "0000:0b:00.1" in told.partition("does not start")[2]


def test_a_framebuffer_on_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there, too, until vfio-pci takes the card. Its text console does not come back."""
    root = single(host(tmp_path), cores=2)
    (root / "proc/iomem").write_text("d0000000-d07fffff : BOOTFB\n")
    seen = f"[ $(python3 -BPSc {shlex.quote(FRAMEBUFFERS)}) = vesa-framebuffer.0 ]"
    monkeypatch.setattr(likeness, "state", lambda plan: f"{state(plan)}\n{seen}")
    code = rehearse(tmp_path, root, *CARD, toml=f"{TOML}[gpu]\n")
    told = capsys.readouterr().out
    assert f"wrong: {CARD[0]} (nvidia, 1002:73bf): BOOTFB uses its memory\n" in told
    assert "is 0000:05:00.0 there (cirrus-vga)" in told
    gone = "console (M) frame buffer device: gone, was '1', since the start of round 1"
    assert code == 1 and gone in told, told


def test_a_group_with_the_hosts_network_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = single(host(tmp_path), cores=2)
    add_pci(root, "0000:0b:00.0", "r8169", "14", "0x020000")
    assert rehearse(tmp_path, root, *CARD) == 1
    told = capsys.readouterr().out
    assert "0000:0b:00.0 (r8169, 1002:73bf), which stays with the host" in told
    assert "0000:0b:00.0" in told.partition("it does not start: ")[2], told
