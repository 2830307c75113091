"""What the emulated host is made of, where each device sits, and how QEMU is told.

Every device has a PCIe root port, and thus a bus and an IOMMU group, of its own. The
firmware numbers the buses in the order of the ports' slots, so the addresses below hold
in every release.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.vm.release import SSH_MAC, Release

BOOT_VGA = "0000:01:00.0"
SYSTEM_DISK = "0000:02:00.0"
SSH_NIC = "0000:03:00.0"
GPU = "0000:04:00.0"
GPU_AUDIO = "0000:04:00.1"
GPU_USB = "0000:04:00.2"
GPU_GROUP = (GPU, GPU_AUDIO, GPU_USB)
NIC = "0000:05:00.0"
NVME = ("0000:06:00.0", "0000:07:00.0")
SRIOV_PF = "0000:08:00.0"
SOURCE_SHARE = "0000:09:00.0"
USB = "0000:0a:00.0"  # a controller of the host's own, with a keyboard and a tablet
# The graphics cards, each with a monitor, and what QEMU calls them.
MONITORS = {BOOT_VGA: "boot-vga", GPU: "gpu"}

# The host driver of each function that a test may take away.
DRIVERS = {
    GPU: "bochs-drm",
    GPU_AUDIO: "snd_hda_intel",
    GPU_USB: "xhci_hcd",
    NIC: "e1000e",
    NVME[0]: "nvme",
    NVME[1]: "nvme",
    SRIOV_PF: "igb",
}
NVME_SERIALS = ("vfio-hooks-nvme-a", "vfio-hooks-nvme-b")
# Plugged in when the host is up: QEMU cannot save a guest that has one.
NVME_DEVICES = tuple(
    {"driver": "nvme", "bus": f"port{slot}", "drive": f"nvme{index}", "serial": serial}
    for index, (slot, serial) in enumerate(zip((6, 7), NVME_SERIALS, strict=True))
)
SRIOV_VFS = 4
# What every host needs itself. No romfile: an option ROM only costs boot time.
DISK = "virtio-blk-pci,drive=system,serial=system"
NETWORK = f"virtio-net-pci,netdev=ssh,romfile=,mac={SSH_MAC}"
SHARE = "virtio-9p-pci,fsdev=source,mount_tag=src"
# Port number -> the functions behind it; the ports of NVME_DEVICES are empty.
SLOTS = {
    1: [f"VGA,vgamem_mb=16,id={MONITORS[BOOT_VGA]}"],
    2: [DISK],
    3: [NETWORK],
    4: [
        f"bochs-display,addr=0.0,multifunction=on,romfile=,id={MONITORS[GPU]}",
        "ich9-intel-hda,addr=0.1,id=gpuaudio",
        "qemu-xhci,addr=0.2,id=gpuusb",
    ],
    5: ["e1000e,romfile=,mac=52:54:00:00:05:00"],
    6: [],
    7: [],
    8: ["igb,romfile=,mac=52:54:00:00:08:00"],
    9: [SHARE],
    10: ["qemu-xhci,id=usb"],
}
# On a busy machine the emulated timer may not tick in the moment that the kernel grants it.
# The kernel then panics, or mistrusts its clock, unless told not to look.
TIMER = "no_timer_check tsc=reliable"
# The kernel's command line.
BASE = "rw rootflags=noatime console=tty0 console=ttyS0 loglevel=4"
IOMMU = "intel_iommu=on iommu=pt"
REST = f"mitigations=off cryptomgr.notests log_buf_len=4M {TIMER}"


@dataclass(frozen=True)
class Topology:
    """The CPUs: NUMA nodes are what QEMU calls dies, `cores` are a node's; threads are SMT
    siblings, numbered side by side."""

    sockets: int = 2
    cores: int = 2
    threads: int = 2
    nodes_per_socket: int = 1

    @property
    def cpus_per_node(self) -> int:
        """How many CPUs one node has."""
        return self.cores * self.threads

    @property
    def nodes(self) -> int:
        """How many NUMA nodes the host has."""
        return self.sockets * self.nodes_per_socket

    @property
    def cpus(self) -> int:
        """How many CPUs the host has."""
        return self.nodes * self.cpus_per_node


@dataclass(frozen=True)
class Hardware:
    """What a boot may choose: CPUs, memory (MiB per node), kernel command line additions.

    With `devices`, QEMU's words for them, these are there instead of the tests' own.
    """

    topology: Topology = Topology()
    node_memory: int = 2048
    kernel_arguments: tuple[str, ...] = ()
    devices: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Efi:
    """What a boot with OVMF takes: its code, its variables, and the disk with the loader."""

    code: Path
    variables: Path
    disk: Path

    def arguments(self) -> list[str]:
        """QEMU's words; the disk is one of USB, so no other device has another address."""
        drives = (
            f"if=pflash,unit=0,format=raw,readonly=on,file={_quoted(self.code)}",
            f"if=pflash,unit=1,format=raw,file={_quoted(self.variables)}",
            f"id=esp,if=none,format=raw,cache=unsafe,file={_quoted(self.disk)}",
        )
        words = [word for drive in drives for word in ("-drive", drive)]
        return [*words, "-device", "usb-storage,bus=usb.0,drive=esp"]


@dataclass(frozen=True)
class Media:
    """The files that a boot is given; `disk` is never written unless `keep_writes`.

    With `memory`, the memory of a saved guest, it is no boot: that guest goes on. With
    `has_loader` the disk's own boot loader starts the kernel, and gives it its command line.
    """

    kernel: Path
    initrd: Path
    disk: Path
    nvme: tuple[Path, Path]
    acpi_table: Path
    source: Path
    keep_writes: bool = False
    memory: Path | None = None
    has_loader: bool = False
    efi: Efi | None = None


def _quoted(path: Path) -> str:
    """A path as a QEMU option value, where a comma has to be doubled."""
    return str(path).replace(",", ",,")


def _processors(hardware: Hardware, model: str) -> list[str]:
    shape = hardware.topology
    size = hardware.node_memory
    # kernel-irqchip is KVM's, not TCG's. What the rest turns off only costs boot time.
    machine = "q35,kernel-irqchip=off,i8042=off,sata=off,smbus=off"
    words = ["-machine", machine, "-accel", "tcg,thread=multi,tb-size=512"]
    words += ["-cpu", model, "-m", str(size * shape.nodes)]
    dies = f"dies={shape.nodes_per_socket}," if shape.nodes_per_socket > 1 else ""
    parts = f"sockets={shape.sockets},{dies}cores={shape.cores},threads={shape.threads}"
    words += ["-smp", f"{shape.cpus},{parts}"]
    for node in range(shape.nodes):
        first = node * shape.cpus_per_node
        last = first + shape.cpus_per_node - 1
        words += ["-object", f"memory-backend-ram,id=ram{node},size={size}M"]
        words += ["-numa", f"node,nodeid={node},cpus={first}-{last},memdev=ram{node}"]
    return words


def _devices(media: Media, own: tuple[str, ...] | None) -> list[str]:
    snapshot = "off" if media.keep_writes else "on"
    format = "qcow2" if media.disk.suffix == ".qcow2" else "raw"
    fast = "if=none,cache=unsafe,discard=unmap"
    system = f"id=system,file={_quoted(media.disk)},format={format},snapshot={snapshot}"
    backends = [
        ("-drive", f"{system},{fast}"),
        ("-drive", f"id=nvme0,file={_quoted(media.nvme[0])},format=raw,{fast}"),
        ("-drive", f"id=nvme1,file={_quoted(media.nvme[1])},format=raw,{fast}"),
        ("-audiodev", "none,id=silence"),
        (
            "-fsdev",
            f"local,id=source,path={_quoted(media.source)},security_model=none,readonly=on",
        ),
    ]
    words = [word for pair in backends for word in pair]
    if own is not None:
        # Ahead of the first slot of a likeness, see vfio_hooks/rehearse/likeness/slots.py.
        return [*words, *_ports({1: [DISK], 2: [NETWORK], 3: [SHARE]}), *own]
    words += _ports(SLOTS)
    for device in (
        "hda-output,bus=gpuaudio.0,audiodev=silence",
        "usb-kbd,bus=usb.0",
        "usb-tablet,bus=usb.0",
    ):
        words += ["-device", device]
    return words


def _ports(slots: Mapping[int, Sequence[str]]) -> Iterator[str]:
    """A root port in each slot, and the functions behind it."""
    for slot, functions in slots.items():
        yield "-device"
        yield f"pcie-root-port,id=port{slot},bus=pcie.0,addr={slot:#x},chassis={slot}"
        for function in functions:
            model, _, options = function.partition(",")
            comma = "," if options else ""
            yield from ("-device", f"{model},bus=port{slot}{comma}{options}")


def arguments(hardware: Hardware, media: Media, release: Release, *, port: int) -> list[str]:
    """QEMU's whole command line but for the program; ssh will listen on loopback's `port`."""
    kernel = [f"root=/dev/vda {BASE} {IOMMU} {REST}", *hardware.kernel_arguments]
    direct = ("-kernel", str(media.kernel), "-initrd", str(media.initrd))
    return [
        *("-nodefaults", "-no-user-config", "-display", "none", "-name", release.hostname),
        *_processors(hardware, release.processor),
        # First of all devices: those created before it would bypass its translation. With eim
        # the kernel uses x2APIC, whose registers are no memory. With the older APIC one boot in
        # fifteen hung, a CPU's timer interrupt in service for ever; with x2APIC none of sixty.
        *("-device", "intel-iommu,intremap=on,caching-mode=on,eim=on"),
        *("-netdev", f"user,id=ssh,restrict=on,hostfwd=tcp:127.0.0.1:{port}-:22"),
        *_devices(media, hardware.devices),
        *(media.efi.arguments() if media.efi else ()),
        *("-acpitable", f"file={_quoted(media.acpi_table)}"),
        *("-serial", "file:console.log", "-monitor", "none", "-qmp", "unix:qmp,server,wait=off"),
        *(() if media.has_loader else (*direct, "-append", " ".join(kernel))),
        *(("-incoming", f"file:{media.memory}") if media.memory else ()),
    ]
