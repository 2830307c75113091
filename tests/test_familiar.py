"""Devices that are others than those that a VM had at their addresses."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command import Command
from tests.hosttree import add_pci, domain_xml, gpu_host
from tests.sealed import Sealed, can_seal
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.identity import Identity, identity, places
from vfio_hooks.plugins.pci.familiar import check

pytestmark = pytest.mark.real_processes
GPU, NIC = "0000:04:00.0", "0000:05:00.0"
words = st.text("0123456789abcdef:-", min_size=1, max_size=12).filter(lambda text: text != "-")


@given(words, st.just("") | words, st.just("") | words)
def test_an_identity_reads_as_it_was_written(ids: str, board: str, serial: str) -> None:
    one = Identity(ids, board, serial)
    assert Identity.parse(str(one)) == one


CARD = Identity("1002:73bf", "1da2:e438", "00-11")


@pytest.mark.parametrize(
    ("other", "may_be"),
    [
        (CARD, True),
        # An older kernel shows no serial number.
        (Identity("1002:73bf", "1da2:e438"), True),
        (Identity("1002:73bf"), True),
        (Identity("1002:73bf", "1da2:e438", "00-12"), False),
        (Identity("1002:73bf", "1849:5201", "00-11"), False),
        (Identity("1022:7901"), False),
    ],
)
def test_what_is_known_of_both_counts(other: Identity, may_be: bool) -> None:
    assert CARD.may_be(other) == other.may_be(CARD) == may_be


def test_what_a_host_tells(tmp_path: Path) -> None:
    gpu_host(tmp_path)
    folder = tmp_path / "sys/bus/pci/devices" / GPU
    host = Host(str(tmp_path))
    assert identity(host, GPU) == Identity("1002:73bf")
    for name, text in (
        ("subsystem_vendor", "0x1da2"),
        ("subsystem_device", "0xe438"),
        ("serial_number", "00-11-22-FF-FE-33-44-55"),
    ):
        (folder / name).write_text(f"{text}\n")
    full = Identity("1002:73bf", "1da2:e438", "00-11-22-ff-fe-33-44-55")
    assert identity(host, GPU) == full
    assert places(host, full) == [GPU]
    (folder / "subsystem_vendor").write_text("0x0000\n")
    (folder / "serial_number").write_text("00-00-00-00-00-00-00-00\n")
    assert identity(host, GPU) == Identity("1002:73bf")
    assert identity(host, "0000:77:00.0") is None


def swap(root: Path, address: str, ids: str) -> None:
    """Put another device at an address."""
    folder = root / "sys/bus/pci/devices" / address
    for name, text in zip(("vendor", "device"), ids.split(":"), strict=True):
        (folder / name).write_text(f"0x{text}\n")


@pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")
def test_a_hook_notes_devices_and_refuses_others(memory: Path) -> None:
    """Where the VM's vm.toml does not name them, after its first start."""
    sealed = Sealed(gpu_host(memory))
    sealed.manage("win11")
    xml = domain_xml(functions=(NIC,))
    for op in ("prepare", "release"):
        assert sealed.hook("win11", op, xml).code == 0
    (noted,) = (sealed.root / "var/lib/vfio-hooks/devices").iterdir()
    assert noted.read_text() == f"{NIC} 8086:10d3\n"
    before = noted.stat().st_mtime_ns
    for op in ("prepare", "release"):
        assert sealed.hook("win11", op, xml).code == 0
    assert noted.stat().st_mtime_ns == before
    swap(sealed.root, NIC, "1022:7901")
    (sealed.root / "sys/bus/pci/devices" / NIC / "class").write_text("0x010601\n")
    refused = sealed.hook("win11", "prepare", xml)
    assert refused.code == 1
    assert refused.stderr == (
        f"vfio-hooks: pci: {NIC} is not the same device as before: it is a SATA device with the "
        f"driver "
        "e1000e (1022:7901); the one that win11 had there (8086:10d3) is no longer on this host; "
        "correct the address in the domain (virsh edit); if it should have this device, remove "
        f"the line from /var/lib/vfio-hooks/devices/{noted.name}\n"
    )
    assert not sealed.journals()
    add_pci(sealed.root, "0000:06:00.0", "e1000e", "9", "0x020000", "8086:10d3")
    refused = sealed.hook("win11", "prepare", xml)
    assert "(8086:10d3) is 0000:06:00.0 now; correct" in refused.stderr
    moved = domain_xml(functions=("0000:07:00.0",))
    noted.write_text("0000:07:00.0 8086:10d3\n")
    refused = sealed.hook("win11", "prepare", moved)
    assert "there is no longer a device; the one that was there is 0000:06:00.0 now" in (
        refused.stderr
    )
    noted.write_text("0000:07:00.0 8086:dead\n")
    assert "this host does not have it" in sealed.hook("win11", "prepare", moved).stderr
    noted.unlink()
    assert sealed.hook("win11", "prepare", xml).code == 0


def test_what_init_writes_is_what_a_plan_expects(command: Command) -> None:
    qemu = command.host / "etc/libvirt/qemu"
    qemu.mkdir(parents=True)
    (qemu / "win11.xml").write_text(domain_xml())
    assert command.here("init", "win11").code == 0
    file = command.hooks / "qemu.d/win11/vm.toml"
    assert f'[pci.expected]\n"{GPU}" = "1002:73bf"\n' in file.read_text()
    file.write_text("[pci]\n" + file.read_text().partition("[pci]\n")[2].partition("\n\n")[0])
    assert command.here("plan", "win11").code == 0
    swap(command.host, GPU, "1022:7901")
    result = command.here("plan", "win11")
    assert result.code == 1
    assert result.err.startswith(
        f"vfio-hooks: prepare would fail: pci: {GPU} is not the same device"
    )
    assert result.err.endswith("should have this device, remove the line from expected in [pci]\n")


def test_a_port_that_is_where_it_was_is_not_where_another_one_went(tmp_path: Path) -> None:
    """The ports of a network card are alike."""
    ports = [f"0000:06:00.{number}" for number in range(3)]
    for port in ports:
        add_pci(tmp_path, port, "igb", "9", "0x020000", "8086:1521")
    domain = parse(domain_xml(functions=tuple(ports[:2])).encode())
    known = dict.fromkeys(ports[:2], "8086:1521")
    check(domain, known, Host(str(tmp_path)))
    swap(tmp_path, ports[1], "1022:7901")
    with pytest.raises(HookError) as caught:
        check(domain, known, Host(str(tmp_path)))
    assert f"(8086:1521) is {ports[2]} now" in caught.value.problem
