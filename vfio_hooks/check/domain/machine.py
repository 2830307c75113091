"""The machine: which hypervisor, which chipset, which firmware, and what Windows 11 asks for."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import passed, shows_files
from vfio_hooks.check.domain.kind import (
    arguments,
    attribute,
    is_kvm,
    is_q35,
    is_windows,
    is_x86,
    machine,
    noted_os,
)
from vfio_hooks.check.domain.rule import HYPERVISORS, guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen, rule
from vfio_hooks.domain.editing import put
from vfio_hooks.host.processor import architectures


@rule(
    "machine-hypervisor",
    "domain",
    "hint",
    why="What is known about domains here is known of QEMU and KVM only.",
    source="https://libvirt.org/formatdomain.html",
)
def hypervisor(patient: Patient) -> Iterator[Seen]:
    kind = patient.guest.xml.get("type") if patient.guest else HYPERVISORS[0]
    if kind not in HYPERVISORS:
        told = f"is of the type {kind!r}" if kind else "has no type"
        yield Seen(f"the domain {told}: nothing else of it is checked", "<domain type='kvm'>")


@rule(
    "domain-unread",
    "domain",
    "hint",
    why="libvirt and QEMU may understand what this program does not; a table of vm.toml that needs "
    "it keeps the VM from starting, and advice about it is left out here.",
    source="https://libvirt.org/formatdomain.html",
)
def unread(patient: Patient) -> Iterator[Seen]:
    for why in patient.guest.domain.unread.values() if patient.guest else ():
        yield Seen(why, "see whether it is a mistake; the VM starts without a table that needs it")


@guest_rule(
    "machine-emulated",
    "warning",
    why="Without KVM every instruction of the guest is emulated, many times slower.",
    source="elements-and-attributes-overview",
)
def emulated(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # Another architecture can only be emulated. /dev/kvm may be there without KVM: systemd makes
    # it so that opening it loads the module.
    if guest.xml.get("type") != "qemu" or not is_x86(guest):
        return
    if "kvm" not in (patient.host.maybe("/proc/misc") or "").split():
        return
    yield Seen(
        "the domain is of the type 'qemu' on a host that has KVM", edits=(put("", type="kvm"),)
    )


@guest_rule(
    "machine-arch",
    "error",
    why="KVM runs the guest's instructions on the host's own processor. One of another "
    "architecture can only be emulated: libvirt refuses the domain.",
    source="elements-and-attributes-overview",
)
def arch(patient: Patient, guest: Guest) -> Iterator[Seen]:
    asked = attribute(guest, "os/type", "arch")
    own = architectures(patient.host)
    if is_kvm(guest) and asked and own and asked not in own:
        yield Seen(
            f"the guest is {asked} with KVM, and this host is {own[0]}",
            "another guest; or <domain type='qemu'>, which emulates it, but takes no passed device",
        )


@guest_rule(
    "machine-q35",
    "warning",
    why="The older chipset (i440fx, machine type pc) has no PCI Express: the guest sees the card "
    "as plain PCI, without a link, and drivers that look for its speed run it slower.",
    source="forum: Increasing VFIO VGA Performance",
)
def q35(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_x86(guest) or is_q35(guest) or machine(guest) in ("microvm", "none"):
        return
    gpus = [device for device in passed(patient, guest) if device.is_gpu]
    if gpus:
        yield Seen(
            f"the machine type is {machine(guest) or 'pc, the default'}, and {gpus[0]} is given "
            "to it",
            "for a guest that is installed anew: <type arch='x86_64' machine='q35'>hvm</type> and "
            "<os firmware='efi'>; this one's devices would all change their addresses",
        )


@guest_rule(
    "machine-bios",
    "hint",
    why="Graphics cards are made for UEFI today: a BIOS guest needs the card's old VGA part, has "
    "trouble with large BARs and cannot use resizable ones.",
    source="bios-bootloader",
    sure="likely",
)
def uefi(patient: Patient, guest: Guest) -> Iterator[Seen]:
    loader = guest.xml.find("os/loader")
    # A file without a type is libvirt's way for firmware of any kind.
    if not is_x86(guest) or attribute(guest, "os", "firmware") == "efi" or not is_q35(guest):
        return
    if loader is not None and loader.get("type") != "rom":
        return
    if any(device.is_gpu for device in passed(patient, guest)):
        yield Seen(
            "the guest's firmware is not UEFI",
            "for a guest that is installed anew: <os firmware='efi'>; one that was installed with "
            "BIOS does not boot with UEFI",
        )


@guest_rule(
    "machine-firmware-file",
    "error",
    why="QEMU does not start without the firmware that the domain names.",
    source="bios-bootloader",
)
def firmware(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not shows_files(patient.host):
        return
    nvram = (guest.xml.findtext("os/nvram") or "").strip()
    # The template is only read where there is no file of the VM's own yet.
    template = attribute(guest, "os/nvram", "template")
    named = [guest.xml.findtext("os/loader")]
    named += [] if nvram.startswith("/") and patient.host.exists(nvram) else [template]
    for path in named:
        if path and path.startswith("/") and not patient.host.exists(path):
            yield Seen(
                f"the firmware {path} is not on this host",
                "<os firmware='efi'> without <loader> and <nvram template=>, so that libvirt "
                "chooses; or install OVMF (Debian: apt install ovmf)",
            )


@guest_rule(
    "machine-tpm",
    "warning",
    why="Windows 11 asks for a TPM 2.0 when it is installed and for its large updates, and "
    "BitLocker, Windows Hello and some games' protection use it.",
    source="https://www.microsoft.com/windows/windows-11-specifications; "
    "https://libvirt.org/formatdomain.html#tpm-device",
)
def tpm(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_windows(guest) or not noted_os(guest).endswith("/win/11"):
        return
    if guest.xml.find("devices/tpm") is None:
        yield Seen(
            "the guest is Windows 11, and has no TPM",
            "in <devices>: <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>\n"
            "It needs swtpm on the host. Suspend BitLocker first, if it is on.",
        )


@guest_rule(
    "machine-ioapic",
    "warning",
    why="This one machine type handles line interrupts of passed devices in QEMU; all before and "
    "after it leave them to the kernel, which does it without a detour.",
    source="QEMU's hw/i386/pc_q35.c, default_kernel_irqchip_split",
)
def ioapic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # An emulated IOMMU with interrupt remapping works with the split one only.
    if machine(guest) != "pc-q35-4.0" or guest.xml.find("devices/iommu") is not None:
        return
    driver = attribute(guest, "features/ioapic", "driver")
    if driver is None and guest.xml.get("type") == "kvm" and passed(patient, guest):
        yield Seen(
            "line interrupts go through QEMU, as with machine type pc-q35-4.0 alone",
            edits=(put("features/ioapic", driver="kvm"),),
        )


@guest_rule(
    "machine-sleep",
    "hint",
    why="Few passed devices survive the guest's sleep: it does not wake up, or without them.",
    source="power-management",
    sure="likely",
)
def sleep(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_x86(guest):
        return
    if not any(device.is_gpu for device in passed(patient, guest)):
        return
    given = " ".join(arguments(guest))
    left = [
        kind
        for kind, switch in (
            ("suspend-to-mem", "disable_s3=1"),
            ("suspend-to-disk", "disable_s4=1"),
        )
        if attribute(guest, f"pm/{kind}", "enabled") != "no" and switch not in given
    ]
    if left:
        yield Seen(
            f"the guest is offered {' and '.join(left)}",
            edits=tuple(put(f"pm/{kind}", enabled="no") for kind in left),
        )


RULES = (hypervisor, unread, emulated, arch, q35, firmware, tpm, uefi, ioapic, sleep)
