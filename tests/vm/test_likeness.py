"""Hosts of which there is a snapshot, emulated: a VM is rehearsed there, and what somebody has set
up wrong is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.hosttree import add_pci, domain_xml
from tests.test_likeness import CARD, PF, PINS, SECOND, double, single
from vfio_hooks.cli import main
from vfio_hooks.cli.likeness import EXACT
from vfio_hooks.host import Host
from vfio_hooks.snapshot.archive import pack
from vfio_hooks.snapshot.files import entries

pytestmark = [pytest.mark.vm, pytest.mark.matrix_only]

TOML = "[pci]\n[cpus]\n[irqs]\n[governor]\n"
ARCHIVE = "host.tar.xz"
SRIOV = '[[sriov]]\npf = "enp6s0"\nnumvfs = 2\n'


def rehearse(tmp_path: Path, root: Path, *functions: str, toml: str = TOML) -> int:
    """The exit code of the verb, for a VM with these functions."""
    pack(str(tmp_path / ARCHIVE), entries(Host(str(root))))
    xml = tmp_path / "win11.xml"
    xml.write_text(domain_xml(functions=functions, more=PINS))
    folder = tmp_path / "hooks/qemu.d/win11"
    folder.mkdir(parents=True)
    (folder / "vm.toml").write_text(toml)
    words = [
        "rehearse",
        "--host",
        str(tmp_path / ARCHIVE),
        str(xml),
        "--rounds",
        "1",
        "--yes",
    ]
    return main([*words, "--config-dir", str(tmp_path / "hooks")])


def host(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


def test_a_single_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = rehearse(tmp_path, single(host(tmp_path)), *CARD, toml=f"{TOML}[gpu]\n")
    told = capsys.readouterr().out
    assert code == 0 and told.endswith(f"win11: {EXACT}\n"), told
    times = re.findall(r"(\d+) times", told.partition("meanwhile, ")[2])
    assert len(times) == 4 and all(map(int, times)), told


def test_two_nodes_and_a_virtual_function(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = double(host(tmp_path))
    code = rehearse(tmp_path, root, *SECOND, "0000:06:10.2", toml=TOML + SRIOV)
    told = capsys.readouterr().out
    assert code == 0 and told.endswith(f"win11: {EXACT}\n"), told
    assert f"{PF} (igb, 1002:73bf) is 0000:41:00.0 there (igb)" in told


def test_an_address_that_has_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse(tmp_path, single(host(tmp_path)), CARD[0], "0000:0b:00.1") == 1
    told = capsys.readouterr().out
    assert told.startswith("wrong: 0000:0b:00.1: the VM is given this function, but the host")
    assert "it does not start: " in told and "0000:0b:00.1" in told.partition("does not start")[2]


def test_a_group_with_the_hosts_network_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = single(host(tmp_path))
    add_pci(root, "0000:0b:00.0", "r8169", "14", "0x020000")
    assert rehearse(tmp_path, root, *CARD) == 1
    told = capsys.readouterr().out
    assert "0000:0b:00.0 (r8169, 1002:73bf), which stays with the host" in told
    assert "0000:0b:00.0" in told.partition("it does not start: ")[2], told
