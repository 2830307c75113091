"""Faults that users make, each with what has to be found of it and the document that says so."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.defects import Edits

_FORMAT = "libvirt, formatdomain.html"
_VALIDATE = "libvirt 11.3, qemu_validate.c"
Change = Callable[[Path], object]


@dataclass(frozen=True)
class Fault:
    """Edits of a domain's text, or a change of the host; the findings of it; where it is said."""

    found: frozenset[str]
    source: str
    edits: Edits = ()
    change: Change | None = None


def _fault(found: str, source: str, *edits: tuple[str, str], change: Change | None = None) -> Fault:
    return Fault(frozenset(found.split()), source, edits, change)


def _line(text: str) -> tuple[str, str]:
    """Without the line that begins like this."""
    return rf"/{text}[^\n]*/", ""


def _file(name: str, text: str) -> Change:
    def change(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")

    return change


_CPU_END = "</cpu>"
_END = "  </devices>"
_DISK_BLOCK = "type='block'"

FAULTS: dict[str, Fault] = {
    "hypervisor bit off": _fault(
        "cpu-hypervisor-off",
        "Hypervisor Top Level Functional Specification, 2.3: the bit CPUID.1:ECX[31] comes first",
        (_CPU_END, "  <feature policy='disable' name='hypervisor'/>\n  </cpu>"),
    ),
    "-cpu on the command line": _fault(
        "cpu-override",
        "QEMU 10.0, system/vl.c: of QEMU_OPTION_cpu the last is kept",
        (
            "</domain>",
            "  <qemu:commandline>\n    <qemu:arg value='-cpu'/>\n    <qemu:arg value='host'/>\n"
            "  </qemu:commandline>\n</domain>",
        ),
    ),
    "disk by its letter": _fault(
        "disk-unstable-name",
        "https://docs.kernel.org/admin-guide/devices.html; udev(7), persistent names",
        ("dev='/dev/disk/by-id/nvme-Samsung_SSD_980'", "dev='/dev/sdb'"),
    ),
    "nvme disk by its number": _fault(
        "disk-unstable-name",
        "udev(7), persistent names; the kernel numbers controllers as they are probed",
        ("dev='/dev/disk/by-id/nvme-Samsung_SSD_980'", "dev='/dev/nvme1n1p3'"),
    ),
    "iothread unused": _fault(
        "iothreads-unused",
        f"{_FORMAT}#iothreads-allocation: a thread does what a <driver> assigns to it",
        (" iothread='1'/>\n      <source", "/>\n      <source"),
    ),
    "vCPUs in real time": _fault(
        "pins-realtime",
        "sched(7): a FIFO thread runs until it blocks; Linux 7.2 has no RT throttling by default",
        (
            "    <emulatorpin",
            "    <vcpusched vcpus='0-3' scheduler='fifo' priority='1'/>\n    <emulatorpin",
        ),
    ),
    "no TPM": _fault(
        "machine-tpm",
        "Microsoft, Windows 11 requirements: TPM version 2.0",
        _line("<tpm"),
    ),
    "cache unsafe": _fault(
        "disk-cache-unsafe",
        "QEMU, block-drivers: unsafe never flushes",
        ("cache='none' io='native'", "cache='unsafe'"),
    ),
    "native with a cache": _fault(
        "disk-io-cache",
        "QEMU 10.0, block/file-posix.c: aio=native requires cache.direct=on",
        ("cache='none' io='native'", "cache='writeback' io='native'"),
    ),
    "limit too low": _fault(
        "memory-limit",
        "libvirt 11.3, qemu_domain.c: hard_limit is the limit for locked memory, too",
        (
            "  <vcpu placement",
            "  <memtune>\n    <hard_limit unit='GiB'>4</hard_limit>\n"
            "  </memtune>\n  <vcpu placement",
        ),
    ),
    "virtiofs alone": _fault(
        "memory-shared",
        f"{_VALIDATE}: 'virtiofs' requires shared memory",
        (
            _END,
            "    <filesystem type='mount'><driver type='virtiofs'/><source dir='/srv'/>"
            "<target dir='srv'/></filesystem>\n  </devices>",
        ),
    ),
    "no spice graphics": _fault(
        "console-without-spice",
        f"{_VALIDATE}: chardev 'spicevmc' not supported without spice graphics",
        _line("<graphics"),
    ),
    "a wrong product": _fault(
        "cpu-topology-product",
        f"{_VALIDATE}: CPU topology doesn't match maximum vcpu count",
        ("sockets='1'", "sockets='3'"),
    ),
    "a balloon": _fault(
        "memory-balloon",
        "QEMU 10.0, hw/vfio: ram_block_discard_disable while a device is assigned",
        ("memballoon model='none'", "memballoon model='virtio'"),
    ),
    "half the memory": _fault(
        "memory-current",
        f"{_FORMAT}#memory-allocation: currentMemory is what the balloon leaves",
        ("<currentMemory unit='GiB'>", "<currentMemory unit='MiB'>"),
    ),
    "no topology": _fault(
        "cpu-topology",
        "libvirt 11.3, qemu_command.c: sockets=VCPUS,cores=1,threads=1",
        _line("<topology"),
    ),
    "no topoext": _fault(
        "cpu-topoext",
        "QEMU 10.0, target/i386/cpu.c: TOPOEXT is not enabled by itself",
        _line("<feature policy='require' name='topoext'"),
    ),
    "no pins": _fault("pins-none", f"{_FORMAT}#cpu-tuning", (r"/<cputune>(?s:.)*?</cputune>/", "")),
    "emulator anywhere": _fault("pins-emulator", f"{_FORMAT}#cpu-tuning", _line("<emulatorpin")),
    "iothread anywhere": _fault("pins-iothread", f"{_FORMAT}#cpu-tuning", _line("<iothreadpin")),
    "HPET": _fault("clock-hpet", f"{_FORMAT}#time-keeping", _line("<timer name='hpet'")),
    "no hypervclock": _fault(
        "hyperv-requirements",
        "QEMU, system/i386/hyperv: hv-stimer requires hv-time",
        _line("<timer name='hypervclock'"),
    ),
    "few enlightenments": _fault(
        "hyperv-off",
        "QEMU, system/i386/hyperv: recommended enlightenments",
        _line("<vapic"),
        _line("<ipi"),
    ),
    "message timers": _fault(
        "hyperv-stimer-direct",
        "QEMU, system/i386/hyperv: hv-stimer-direct",
        ("<stimer state='on'><direct state='on'/></stimer>", "<stimer state='on'/>"),
    ),
    "UTC for Windows": _fault("clock-offset", f"{_FORMAT}#time-keeping", ("localtime", "utc")),
    "a SATA disk": _fault(
        "disk-bus",
        f"{_FORMAT}#hard-drives-floppy-disks-cdroms",
        ("'vda' bus='virtio'", "'sda' bus='sata'"),
        (" iothread='1'/>\n      <source", "/>\n      <source"),
        _line("<iothreads>"),
        _line("<iothreadpin"),
    ),
    "an emulated NIC": _fault(
        "nic-model", f"{_FORMAT}#network-interfaces", ("model type='virtio'", "model type='e1000e'")
    ),
    "a card on the root bus": _fault(
        "pci-root-bus",
        "QEMU, docs/pcie.txt: on the root complex a device is an integrated endpoint",
        ("bus='0x05' slot='0x00'", "bus='0x00' slot='0x09'"),
    ),
    "functions apart": _fault(
        "pci-functions-apart",
        f"{_FORMAT}#host-device-assignment",
        ("bus='0x05' slot='0x00' function='0x1'", "bus='0x06' slot='0x00' function='0x0'"),
    ),
    "multifunction off": _fault(
        "pci-multifunction",
        f"{_FORMAT}#device-addresses",
        (" multifunction='on'", " multifunction='off'"),
    ),
    "behind a bridge": _fault(
        "pci-behind-bridge",
        "QEMU, docs/pcie.txt: a PCI Express device below a PCI bridge is a PCI device",
        ("index='5' model='pcie-root-port'", "index='5' model='pcie-to-pci-bridge'"),
    ),
    "a hidden ROM": _fault(
        "device-rom-bar",
        "QEMU 10.0, hw/pci/pci.c: without a ROM bar the file goes to fw_cfg, for a BIOS",
        (
            "      </source>\n      <address type='pci' domain='0x0000' bus='0x05' slot='0x00' "
            "function='0x0'",
            "      </source>\n      <rom bar='off' file='/usr/share/card.rom'/>\n"
            "      <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'",
        ),
    ),
    "iommufd": _fault(
        "iommufd-missing",
        "libvirt 12.1 news: iommufd; Debian's kernels have CONFIG_IOMMUFD unset",
        ("  <features>", "  <iommufd enabled='yes'/>\n  <features>"),
        change=_file("usr/share/doc/here", "a host with files"),
    ),
    "a card that is not there": _fault(
        "device-absent",
        f"{_FORMAT}#host-device-assignment",
        (
            "  </devices>",
            "    <hostdev mode='subsystem' type='pci' managed='yes'><source><address "
            "domain='0x0000' bus='0x77' slot='0x00' function='0x0'/></source></hostdev>\n"
            "  </devices>",
        ),
    ),
    "a named model": _fault(
        "cpu-mode",
        f"{_FORMAT}#cpu-model-and-topology",
        (
            "<cpu mode='host-passthrough' check='none' migratable='off'>",
            "<cpu mode='custom' match='exact' check='partial'>\n    <model>Opteron_G1</model>",
        ),
        _line("<cache"),
    ),
    "made-up caches": _fault("cpu-cache", f"{_FORMAT}#cpu-model-and-topology", _line("<cache")),
    "suspend": _fault("machine-sleep", f"{_FORMAT}#power-management", (r"/<pm>(?s:.)*?</pm>/", "")),
    "through the page cache": _fault(
        "disk-cache",
        "QEMU, block-drivers: writeback is the default",
        (" cache='none' io='native'", ""),
    ),
    "BIOS": _fault("machine-bios", f"{_FORMAT}#bios-bootloader", ("<os firmware='efi'>", "<os>")),
    "host-model for hyperv": _fault(
        "",
        "libvirt 11.9 news: hyperv mode='host-model'",
        (r"/<hyperv(?s:.)*?</hyperv>/", "    <hyperv mode='host-model'/>\n"),
    ),
    "lines below passthrough": _fault(
        "hyperv-passthrough",
        "libvirt 11.3, domain_conf.c: with passthrough the children are not read",
        ("<hyperv mode='custom'>", "<hyperv mode='passthrough'>"),
    ),
    "a pin to CPU 0": _fault(
        "pins-cpu-0 node-cache",
        "https://docs.kernel.org/timers/no_hz.html",
        ("vcpu='0' cpuset='8'", "vcpu='0' cpuset='0'"),
        ("vcpu='1' cpuset='24'", "vcpu='1' cpuset='16'"),
    ),
}
