"""`vfio-hooks iommu`: groups, what is in them, and whose they are."""

from pathlib import Path

import pytest

from tests.command import Command
from tests.hosttree import add_pci, domain_xml
from vfio_hooks.host import Host
from vfio_hooks.host import pci_traits as traits

IDS = """\
# a comment
1002  Advanced Micro Devices, Inc. [AMD/ATI]
\t73bf  Navi 21 [Radeon RX 6800]
\t\t1002 0e3a  a card
10de  NVIDIA Corporation
\t2204  GA102 [GeForce RTX 3090]
C 03  Display controller
\t00  VGA compatible controller
"""


def test_groups_are_shown_with_their_devices(command: Command, tmp_path: Path) -> None:
    folder = command.host / "sys/bus/pci/devices/0000:04:00.0"
    for name, text in (
        ("reset_method", "flr bus"),
        ("boot_vga", "1"),
        ("current_link_speed", "2.5 GT/s PCIe"),
        ("current_link_width", "16"),
        ("max_link_speed", "16.0 GT/s PCIe"),
        ("max_link_width", "16"),
    ):
        (folder / name).write_text(text + "\n")
    (tmp_path / "win11.xml").write_text(domain_xml())
    result = command.here("iommu", "--xml", str(tmp_path / "win11.xml"))
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 100
    assert "0000:04:00.0  VGA          amdgpu           1002:73bf" in result.out
    line = "boot display, 2.5 GT/s x16 of 16 GT/s x16, reset: flr bus, for VM win11"
    assert line in result.out
    assert "reset: none" in result.out
    assert "!" not in result.out


def test_a_device_of_the_host_in_a_vms_group_is_marked(command: Command, tmp_path: Path) -> None:
    add_pci(command.host, "0000:05:00.1", "e1000e", "7", "0x020000", "8086:10d3")
    add_pci(command.host, "0000:05:00.2", None, "7", "0x020000", "8086:10d3")
    (tmp_path / "win11.xml").write_text(domain_xml())
    options = "--xml", str(tmp_path / "win11.xml")
    result = command.here("iommu", *options)
    assert result.out.count("! used by the host, in a VM's group") == 1
    assert "! In groups 7 the host uses a device next to one of a VM" in result.out
    assert "as well; or use another slot; or" in result.out
    groups = {
        group["number"]: group for group in command.here("iommu", *options, "--json").json["groups"]
    }
    assert [groups["7"]["shared"], groups["8"]["shared"]] == [True, False]
    shares = [one["function"]["address"] for one in groups["7"]["members"] if one["shares"]]
    assert shares == ["0000:05:00.1"]


def test_another_slot_is_no_advice_for_one_card(command: Command, tmp_path: Path) -> None:
    (tmp_path / "win11.xml").write_text(domain_xml(functions=("0000:04:00.0",)))
    result = command.here("iommu", "--xml", str(tmp_path / "win11.xml"))
    assert result.out.count("! used by the host, in a VM's group") == 2
    assert result.out.endswith('while the VM runs, in vm.toml, below [pci]: group = "bind"\n')


def test_who_has_a_device_now_is_in_the_journals(command: Command) -> None:
    command.manage("win11", '[pci]\ngroup = "error"\n')
    options = ("win11", "prepare", "begin", "-")
    assert command.here("hook", *options, stdin=domain_xml()).code == 0
    from vfio_hooks.cli.iommu import holders
    from vfio_hooks.engine.state import StateFolder

    held = holders(StateFolder(str(command.state)))
    assert held == {f"0000:04:00.{number}": "win11" for number in range(3)}


def test_a_host_without_an_iommu_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    result = command("iommu", "--root", str(tmp_path))
    assert (result.code, result.out) == (1, "")
    assert "no IOMMU group" in result.err
    assert "intel_iommu=on" in result.err


def test_names_come_from_pci_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pci.ids").write_text(IDS)
    monkeypatch.setattr(traits, "_PCI_IDS", (str(tmp_path / "none"), str(tmp_path / "pci.ids")))
    assert traits.names(["1002:73bf", "10de:2204", "10de:0000", "ffff:0300", "1002:0e3a"]) == {
        "1002:73bf": "AMD Navi 21 [Radeon RX 6800]",
        "10de:2204": "NVIDIA GA102 [GeForce RTX 3090]",
    }


def test_a_function_without_files_has_no_traits(tmp_path: Path) -> None:
    seen = traits.traits(Host(str(tmp_path)), "0000:00:00.0")
    assert seen == traits.Traits("device", None, None, None, (), False)
