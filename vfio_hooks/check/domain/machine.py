"""The machine: which hypervisor, which chipset, which firmware."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import (
    attribute,
    is_q35,
    is_x86,
    machine,
    passed,
    shows_files,
)
from vfio_hooks.check.domain.rule import HYPERVISORS, guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen, rule
from vfio_hooks.domain.editing import put


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
        "the domain is of the type 'qemu' on a host that has KVM",
        "<domain type='kvm'>",
        lambda root: root.set("type", "kvm"),
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
            "<type arch='x86_64' machine='q35'>hvm</type>\n"
            "This needs other addresses for all devices: make a new domain with q35 and UEFI, and "
            "give it the disks of this one.",
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
    loader = attribute(guest, "os/loader", "type")
    if not is_x86(guest) or loader == "pflash" or attribute(guest, "os", "firmware") == "efi":
        return
    if any(device.is_gpu for device in passed(patient, guest)):
        yield Seen(
            "the guest's firmware is not UEFI",
            "<os firmware='efi'>\nOnly for a guest that is installed anew: one that was installed "
            "with BIOS does not boot with UEFI.",
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
    named = (guest.xml.findtext("os/loader"), attribute(guest, "os/nvram", "template"))
    for path in named:
        if path and path.startswith("/") and not patient.host.exists(path):
            yield Seen(
                f"the firmware {path} is not on this host",
                "<os firmware='efi'> without <loader> and <nvram>, so that libvirt chooses; or "
                "install OVMF (Debian: apt install ovmf)",
            )


@guest_rule(
    "machine-vmport",
    "hint",
    why="The VMware port is for mice of VMware's guests; nothing here needs it.",
    source="hypervisor-features",
    sure="possible",
)
def vmport(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if is_x86(guest) and passed(patient, guest):
        state = attribute(guest, "features/vmport", "state")
        if state != "off":
            yield Seen(
                f"the VMware port is {state or 'not switched off'}",
                "<features><vmport state='off'/></features>",
                put("features/vmport", state="off"),
            )


@guest_rule(
    "machine-ioapic",
    "hint",
    why="On q35 QEMU handles line interrupts of passed devices itself unless the kernel is to; "
    "the kernel does it without a detour.",
    source="hypervisor-features",
    sure="likely",
)
def ioapic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # QEMU 4.0 made the split interrupt controller q35's default.
    if guest.xml.get("type") != "kvm" or not is_q35(guest) or not passed(patient, guest):
        return
    # An emulated IOMMU with interrupt remapping works with the split one only.
    if guest.xml.find("devices/iommu") is not None:
        return
    driver = attribute(guest, "features/ioapic", "driver")
    if driver is None:
        yield Seen(
            "line interrupts go through QEMU",
            "<features><ioapic driver='kvm'/></features>",
            put("features/ioapic", driver="kvm"),
        )


@guest_rule(
    "machine-sleep",
    "hint",
    why="Few passed devices survive the guest's sleep: it does not wake up, or without them.",
    source="power-management",
    sure="likely",
)
def sleep(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not passed(patient, guest) or not is_x86(guest):
        return
    for kind in ("suspend-to-mem", "suspend-to-disk"):
        if attribute(guest, f"pm/{kind}", "enabled") != "no":
            yield Seen(
                f"the guest is offered {kind}",
                f"<pm><{kind} enabled='no'/></pm>",
                put(f"pm/{kind}", enabled="no"),
            )


RULES = (hypervisor, unread, emulated, q35, uefi, firmware, vmport, ioapic, sleep)
