"""The machine: its hypervisor, chipset and firmware, and what Windows 11 requires."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import passed, shows_files
from vfio_hooks.check.domain.kind import (
    arguments,
    attribute,
    is_kvm,
    is_old_windows,
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
    why="These checks are only about domains of QEMU and KVM.",
    source="https://libvirt.org/formatdomain.html",
)
def hypervisor(patient: Patient) -> Iterator[Seen]:
    kind = patient.guest.xml.get("type") if patient.guest else HYPERVISORS[0]
    if kind not in HYPERVISORS:
        told = f"is of the type {kind!r}" if kind else "has no type"
        yield Seen(f"the domain {told}, so nothing else of it is checked", "<domain type='kvm'>")


@rule(
    "domain-unread",
    "domain",
    "hint",
    why="libvirt and QEMU may understand what this program does not. A table of vm.toml that "
    "needs it keeps the VM from starting, and check gives no advice about it.",
    source="https://libvirt.org/formatdomain.html",
)
def unread(patient: Patient) -> Iterator[Seen]:
    for why in dict.fromkeys(patient.guest.domain.unread.values()) if patient.guest else ():
        yield Seen(
            why, "check whether it is a mistake; without the table that needs it, the VM starts"
        )


@guest_rule(
    "machine-emulated",
    "warning",
    why="Without KVM every instruction of the guest is emulated, which is many times slower.",
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
    "as a plain PCI device without a link, and drivers that look for the link's speed run "
    "the card slower.",
    source="forum: Increasing VFIO VGA Performance",
)
def q35(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_x86(guest) or is_q35(guest) or machine(guest) in ("microvm", "none"):
        return
    gpus = [device for device in passed(patient, guest) if device.is_gpu]
    if gpus and not is_old_windows(guest):
        yield Seen(
            f"the machine type is {machine(guest) or 'pc, the default'}, and {gpus[0]} is given "
            "to it",
            "when you next install a guest: <type arch='x86_64' machine='q35'>hvm</type> and <os "
            "firmware='efi'>; in this guest all devices would change their addresses",
        )


@guest_rule(
    "machine-bios",
    "hint",
    why="Today's graphics cards are made for UEFI. A guest with BIOS needs the card's old VGA "
    "part, has trouble with large BARs, and cannot use resizable ones.",
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
    has_card = any(device.is_gpu for device in passed(patient, guest))
    if has_card and not is_old_windows(guest):
        yield Seen(
            "the guest's firmware is not UEFI",
            "when you next install a guest: <os firmware='efi'>; a guest that was installed with "
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
    # The template is only read as long as the VM has no file of its own.
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
    why="Windows 11 needs a TPM 2.0 for its installation and its large updates. BitLocker, "
    "Windows Hello and the protection of some games use it.",
    source="https://www.microsoft.com/windows/windows-11-specifications; "
    "https://libvirt.org/formatdomain.html#tpm-device",
)
def tpm(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_windows(guest) or not noted_os(guest).endswith("/win/11"):
        return
    if guest.xml.find("devices/tpm") is None:
        yield Seen(
            "the guest is Windows 11, but has no TPM",
            "in <devices>: <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>\n"
            "It needs swtpm on the host. Suspend BitLocker first, if it is on.",
        )


@guest_rule(
    "machine-ioapic",
    "warning",
    why="Only this machine type handles line interrupts of passed devices in QEMU. All others "
    "leave them to the kernel, which is faster.",
    source="QEMU's hw/i386/pc_q35.c, default_kernel_irqchip_split",
)
def ioapic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # An emulated IOMMU with interrupt remapping works with the split one only.
    if machine(guest) != "pc-q35-4.0" or guest.xml.find("devices/iommu") is not None:
        return
    driver = attribute(guest, "features/ioapic", "driver")
    if driver is None and guest.xml.get("type") == "kvm" and passed(patient, guest):
        yield Seen(
            "line interrupts go through QEMU, which only machine type pc-q35-4.0 does",
            edits=(put("features/ioapic", driver="kvm"),),
        )


@guest_rule(
    "machine-sleep",
    "hint",
    why="Few passed devices survive the guest's sleep: it does not wake up, or it wakes up "
    "without them.",
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
