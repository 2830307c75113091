"""What a plan says of the devices that a VM is given."""

from pathlib import Path

import pytest

from tests.hosttree import domain_xml, gpu_host
from vfio_hooks.domain import parse
from vfio_hooks.host import Host, pci_traits
from vfio_hooks.plugins.pci.given import told

USB, CARD = "0000:04:00.2", "0000:04:00.0"


def put(root: Path, name: str, **files: str) -> Path:
    """A device's folder, its files, and its subsystem."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        if file == "subsystem":
            (folder / file).symlink_to(f"/sys/class/{text}")
        else:
            (folder / file).write_text(f"{text}\n")
    return folder


def plug(root: Path, controller: str, path: str, product: str, protocol: str) -> None:
    """A USB device with one interface, a HID one."""
    folder = f"{controller}/usb{path[0]}/{path}"
    put(root, folder, subsystem="usb", idVendor="046d", idProduct="c31c", product=product)
    put(
        root,
        f"{folder}/{path}:1.0",
        subsystem="usb",
        bInterfaceClass="03",
        bInterfaceProtocol=protocol,
    )
    links = root / "sys/bus/usb/devices"
    links.mkdir(parents=True, exist_ok=True)
    (links / path).symlink_to(root / folder)
    (links / f"{path}:1.0").symlink_to(root / folder / f"{path}:1.0")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """With a keyboard and a disk on what the VM is given, and a mouse on each of two buses."""
    gpu_host(tmp_path)
    devices = "sys/bus/pci/devices"
    plug(tmp_path, f"{devices}/{USB}", "3-1", "Keyboard", "01")
    plug(tmp_path, f"{devices}/{USB}", "3-2", "Mouse", "02")
    plug(tmp_path, "sys/devices/pci0000:00/0000:00:14.0", "1-1", "Other Mouse", "02")
    disk = f"{devices}/0000:05:00.0/nvme/nvme0/nvme0n1"
    put(tmp_path, disk, subsystem="block")
    put(tmp_path, f"{disk}/device", model="WD Black")
    put(tmp_path, f"{disk}/nvme0n1p1", subsystem="block", partition="1")
    ids = tmp_path / "pci.ids"
    ids.write_text("1002  Advanced Micro Devices, Inc. [AMD/ATI]\n\t73bf  Navi 21 [RX 6800]\n")
    monkeypatch.setattr(pci_traits, "_PCI_IDS", (str(ids),))
    return Host(str(tmp_path))


def lines(host: Host, *addresses: str) -> list[str]:
    return list(told(parse(domain_xml(functions=addresses).encode()), host))


def test_each_device_has_its_name_and_what_goes_with_it(host: Host) -> None:
    assert lines(host, CARD, "0000:04:00.1", "0000:05:00.0") == [
        f"{CARD} is VGA, AMD Navi 21 [RX 6800]",
        "0000:05:00.0 is Ethernet, 8086:10d3; with nvme0n1 (WD Black)",
    ]


def test_the_only_keyboard_is_missed(host: Host) -> None:
    told_of = f"{USB} is USB, 1002:73a6; with 3-1 (Keyboard), 3-2 (Mouse)"
    missed = "these are the host's only keyboard, so the host has none until the VM ends"
    assert lines(host, USB) == [told_of, missed]
    serio = Path(host.root) / "sys/bus/serio/devices/serio0"
    serio.mkdir(parents=True)
    (serio / "driver").symlink_to("../../drivers/atkbd")
    assert lines(host, USB) == [told_of]


def test_usb_devices_of_other_vms_are_theirs(host: Host) -> None:
    folder = Path(host.root) / "etc/libvirt/qemu"
    folder.mkdir(parents=True)
    hostdev = (
        "<devices><hostdev type='usb'><source><vendor id='0x046d'/><product id='0xc31c'/></source>"
        "</hostdev></devices>"
    )
    other = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c12"
    (folder / "mac.xml").write_text(
        f"<domain><name>mac</name><uuid>{other}</uuid>{hostdev}</domain>"
    )
    (folder / "broken.xml").write_text("<domain>")
    assert "3-1 (Keyboard), which VM mac is given" in lines(host, USB)[0]
