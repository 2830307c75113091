"""Domains in the styles of other tools, each on a host that it may be from, and what check has to
find. What it found was read by hand against the documents that the rules name; where it was wrong
the rules were mended, and the lists are what is right."""

from collections.abc import Callable
from pathlib import Path

from tests.hosttree import add_pci
from tests.shapes import regular
from tests.users.styles import base, epyc, hybrid, laptop, ryzen, two_cards, x3d

FILES = Path(__file__).with_name("strangers")
_DEVICES = "sys/bus/pci/devices"


def _file(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text + "\n")


def _apu(root: Path) -> None:
    """One of AMD's processors, whose graphics share a slot with a coprocessor and USB."""
    base(root, "ryzen", "AuthenticAMD")
    regular(1, 1, 1, 8, 2, adjacent=True).write(root)
    for number, driver, kind, ids in (
        (0, "amdgpu", "0x030000", "1002:1638"),
        (1, "snd_hda_intel", "0x040300", "1002:1637"),
        (2, "ccp", "0x108000", "1022:15df"),
        (3, "xhci_hcd", "0x0c0330", "1022:1639"),
    ):
        add_pci(root, f"0000:0b:00.{number}", driver, str(10 + number), kind, ids)


def _with_ssd(root: Path) -> None:
    x3d(root)
    add_pci(root, "0000:05:00.0", "amdgpu", "5", "0x030000", "1002:164e")
    add_pci(root, "0000:01:00.0", "nvme", "14", "0x010802", "144d:a80c")
    add_pci(root, "0000:0d:00.3", "xhci_hcd", "15", "0x0c0330", "1022:15b6")


def _with_nic(root: Path) -> None:
    ryzen(root)
    add_pci(root, "0000:06:00.0", "igb", "6", "0x020000", "8086:1521")


def _with_vf(root: Path) -> None:
    epyc(root)
    add_pci(root, "0000:61:00.0", "ice", "61", "0x020000", "8086:1592")
    add_pci(root, "0000:61:02.1", "iavf", "62", "0x020000", "8086:1889")
    (root / _DEVICES / "0000:61:02.1/physfn").symlink_to("../0000:61:00.0")
    (root / _DEVICES / "0000:61:00.0/virtfn0").symlink_to("../0000:61:02.1")
    _file(root, f"{_DEVICES}/0000:61:00.0/sriov_numvfs", "1")
    _file(root, f"{_DEVICES}/0000:61:00.0/sriov_totalvfs", "8")


def _intel(root: Path) -> None:
    base(root, "laptop", "GenuineIntel")
    add_pci(root, "0000:00:02.0", "i915", "2", "0x030000", "8086:3e9b")


def _with_hba(root: Path) -> None:
    _intel(root)
    add_pci(root, "0000:01:00.0", "mpt3sas", "1", "0x010700", "1000:0097")


def _optimus(root: Path) -> None:
    """Its NVIDIA chip has no outputs."""
    _intel(root)
    add_pci(root, "0000:01:00.0", "nvidia", "1", "0x030200", "10de:1f11")


def _gvt(root: Path) -> None:
    _intel(root)
    _file(root, "sys/bus/mdev/devices/9f1a0d5e-6a0c-4a3a-8c2a-f3f1b1c70d71/mdev_type/name", "V5_4")


def _with_vgpu(root: Path) -> None:
    """A vGPU of NVIDIA's is a VF that keeps the host's driver, which shows it to VFIO."""
    epyc(root)
    for address in ("0000:81:00.0", "0000:81:00.4"):
        add_pci(root, address, "nvidia", address[-1] + "81", "0x030200", "10de:26b9")
    (root / _DEVICES / "0000:81:00.4/physfn").symlink_to("../0000:81:00.0")
    (root / _DEVICES / "0000:81:00.0/virtfn0").symlink_to("../0000:81:00.4")
    _file(root, f"{_DEVICES}/0000:81:00.4/vfio-dev/vfio3/dev", "511:3")
    _file(root, f"{_DEVICES}/0000:81:00.0/sriov_numvfs", "1")


def _isolated(root: Path) -> None:
    ryzen(root)
    _file(root, "sys/devices/system/cpu/isolated", "4-7,20-23")


def _with_hbas(root: Path) -> None:
    """One at each of two processors."""
    base(root, "2 sockets", "GenuineIntel")
    for bus, node in (("03", "0"), ("82", "1")):
        add_pci(root, f"0000:{bus}:00.0", "vfio-pci", bus, "0x010700", "1000:0097")
        _file(root, f"{_DEVICES}/0000:{bus}:00.0/numa_node", node)


def _with_cells(root: Path) -> None:
    """The second card is at node 5."""
    epyc(root)
    add_pci(root, "0000:a1:00.0", "vfio-pci", "161", "0x030200", "10de:20b5")
    _file(root, f"{_DEVICES}/0000:a1:00.0/numa_node", "5")


def _with_virtual_graphics(root: Path) -> None:
    hybrid(root)
    for address in ("0000:00:02.0", "0000:00:02.1"):
        add_pci(root, address, "i915", address[-1] + "2", "0x030000", "8086:4680")
    (root / _DEVICES / "0000:00:02.1/physfn").symlink_to("../0000:00:02.0")


def _with_far_ssd(root: Path) -> None:
    """A Threadripper whose card is at node 0, and the SSD at node 2."""
    base(root, "threadripper", "AuthenticAMD", "0a:00")
    _file(root, f"{_DEVICES}/0000:0a:00.0/numa_node", "0")
    add_pci(root, "0000:43:00.0", "nvme", "67", "0x010802", "144d:a808")
    _file(root, f"{_DEVICES}/0000:43:00.0/numa_node", "2")
    add_pci(root, "0000:07:10.1", "ixgbevf", "7", "0x020000", "8086:1515")
    _file(root, "sys/module/apparmor/parameters/enabled", "Y")


STRANGERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "proxmox": (
        ryzen,
        "pins-emulator pins-iothread pins-wide machine-sleep cpu-cache hyperv-stimer-direct "
        "extra-tablet",
    ),
    "unraid": (
        ryzen,
        "machine-q35 pins-emulator hyperv-off machine-sleep hyperv-stimer-direct disk-iothread",
    ),
    "cockpit": (_with_nic, "memory-balloon"),
    "virt-install-win11": (
        two_cards,
        "cpu-topoext pins-none memory-balloon disk-bus cpu-cache hyperv-stimer-direct disk-cache "
        "nic-model extra-tablet extra-video",
    ),
    "quickemu": (laptop, "pins-none machine-sleep disk-cache disk-discard disk-iothread"),
    "nixvirt": (hybrid, "pins-siblings node-vcpus disk-iothread"),
    "terraform": (
        epyc,
        "machine-q35 pins-none memory-balloon machine-sleep cpu-cache cpu-migratable disk-iothread",
    ),
    "microvm": (laptop, ""),
    "bridges-by-hand": (_with_vf, "machine-sleep memory-locked"),
    "apu": (_apu, "device-no-reset cpu-cache disk-iothread"),
    "gvt-g": (_gvt, "cpu-topology hyperv-off"),
    "usb-nvme": (_with_ssd, ""),
    "aarch64": (_with_vf, "machine-arch memory-balloon"),
    "nova": (
        epyc,
        "pins-emulator memory-balloon machine-sleep node-cache memory-locked disk-iothread "
        "extra-tablet extra-video",
    ),
    "firmware-auto": (hybrid, "machine-sleep"),
    "truenas": (_with_hba, "memory-balloon"),
    "optimus": (
        _optimus,
        "argument-set cpu-hypervisor-off cpu-cache disk-cache disk-discard disk-iothread",
    ),
    "osx-kvm": (two_cards, "pins-none machine-sleep disk-discard"),
    "vgpu": (
        _with_vgpu,
        "pins-none memory-balloon cpu-cache hyperv-stimer-direct disk-iothread",
    ),
    "file-server": (
        two_cards,
        "disk-io-cache disk-cache-unsafe disk-unstable-name disk-bus iothreads-unused cpu-cache "
        "disk-discard",
    ),
    "pcie-to-pci": (two_cards, "pci-behind-bridge disk-iothread"),
    "mixed-cores": (hybrid, "pins-siblings node-vcpus hyperv-stimer-direct disk-iothread"),
    "unraid-7": (
        _isolated,
        "pins-emulator hyperv-off machine-sleep hyperv-stimer-direct disk-iothread extra-tablet",
    ),
    "no-spice": (
        two_cards,
        "memory-shared console-without-spice cpu-topoext pins-none cpu-cache cpu-migratable "
        "disk-iothread",
    ),
    "hidden-vm": (two_cards, "cpu-hypervisor-off clock-ticks"),
    "two-hbas": (_with_hbas, "memory-balloon disk-discard"),
    "appliance": (_with_vf, "node-memory memory-balloon pins-wide disk-discard disk-iothread"),
    "x3d-kvmfr": (x3d, "node-vcpus memory-locked"),
    "evdev-hybrid": (hybrid, "cpu-cache node-vcpus hyperv-stimer-direct"),
    "numa-cells": (
        _with_cells,
        "pins-half-core memory-balloon machine-sleep cpu-cache cpu-migratable disk-iothread",
    ),
    "evdev-events": (
        two_cards,
        "input-unstable-name disk-unstable-name cpu-cache pins-wide hyperv-stimer-direct "
        "disk-discard nic-model disk-iothread",
    ),
    "by-argument": (ryzen, "device-by-argument"),
    "vcpus-off": (
        two_cards,
        "cpu-topoext pins-realtime memory-balloon hyperv-off clock-hyperv machine-sleep "
        "cpu-cache disk-discard disk-iothread extra-video",
    ),
    "muxless": (
        laptop,
        "pins-emulator memory-balloon hyperv-off machine-sleep cpu-cache hyperv-stimer-direct "
        "disk-cache nic-model disk-iothread extra-video",
    ),
    "media-server": (
        _with_virtual_graphics,
        "memory-shared pins-none memory-balloon machine-sleep disk-cache disk-iothread",
    ),
    "efficiency": (
        hybrid,
        "pins-emulator node-kinds cpu-cache pins-wide hyperv-stimer-direct disk-iothread",
    ),
    "handheld": (
        _apu,
        "cpu-topology pins-none memory-balloon device-function-left device-no-reset "
        "clock-hpet disk-cache-unsafe machine-sleep cpu-cache nic-model",
    ),
    "torn-apart": (
        _with_far_ssd,
        "disk-nvme-apparmor node-pins iothreads-unused node-vcpus pins-cpu-0",
    ),
    "windows-xp": (laptop, "pins-none disk-bus machine-sleep clock-ticks disk-cache nic-model"),
    "ultmos": (ryzen, "pins-none"),
}
"""By file name: the host, and the findings about the domain."""


def xml_of(name: str) -> bytes:
    return (FILES / f"{name}.xml").read_bytes()
