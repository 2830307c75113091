"""The devices that are passed to the domain: whether they exist, are bound and are allowed, and how
they interrupt."""

import re
from collections.abc import Iterator

from vfio_hooks.check.domain.facts import NVIDIA, passed, shows_files
from vfio_hooks.check.domain.kind import attribute, is_macos, is_windows, own_cpu
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import pci_functions
from vfio_hooks.domain.editing import Edit, put
from vfio_hooks.host import Host
from vfio_hooks.host.mdev import DEVICES as MDEVS
from vfio_hooks.host.pci import (
    DEVICES,
    GROUPS,
    card,
    function,
    is_shown_to_vfio,
    is_vfios,
)
from vfio_hooks.host.pci_traits import traits
from vfio_hooks.host.sriov import count_file
from vfio_hooks.plural import verb

_SOURCE = "host-device-assignment"
_OFF_SWITCH = "/sys/devices/platform/asus-nb-wmi/dgpu_disable"


@guest_rule(
    "device-absent",
    "error",
    why="The domain does not start if a device that it names is missing.",
    source=_SOURCE,
)
def absent(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not patient.host.names(DEVICES):
        return
    gone = [
        function
        for _, function in pci_functions(guest.xml)
        if not patient.host.exists(f"{DEVICES}/{function.address}")
    ]
    if not gone:
        return
    if patient.host.maybe(_OFF_SWITCH) == "1":
        do = f"the laptop's graphics card is switched off: echo 0 | sudo tee {_OFF_SWITCH}"
    elif patient.host.exists("/etc/supergfxd.conf"):
        do = "supergfxctl may have switched the card off: supergfxctl -g shows that; -m Hybrid"
    else:
        do = "look up its address with lspci -D. Addresses change when a card is added or the "
        do += "firmware is updated"
        if any(patient.host.exists(count_file(one)) for one in patient.host.names(DEVICES)):
            do += "; a VF exists after [[sriov]] in vm.toml has made it"
    text = f"this host has no device {', '.join(one.address for one in gone)}"
    given = passed(patient, guest)
    others = [one for one in given if one.kind and one.card in {card(one.address) for one in gone}]
    if others and not any(one.is_gpu for one in others):
        # Where a device has moved away from, there may be another one, with fewer functions.
        kinds = (f"{one.address} is {_shown(patient.host, one.address)}" for one in others)
        text += f", and {', '.join(kinds)}"
    cards = [one for one in patient.host.names(DEVICES) if _is_card(patient.host, one)]
    if cards and not any(one.is_gpu for one in given):
        do += f"\nThis host's graphics cards: {', '.join(cards)}"
    yield Seen(text, do)


def _is_card(host: Host, address: str) -> bool:
    found = function(host, address)
    return found is not None and found.is_display


def _shown(host: Host, address: str) -> str:
    there = function(host, address)
    return f"a {traits(host, address).kind} device ({there.ids})" if there else "nothing"


@guest_rule(
    "device-no-group",
    "error",
    why="VFIO passes whole IOMMU groups, so a device without a group stays with the host. Such a "
    "device is not behind an IOMMU, or a setting of the firmware keeps it out.",
    source="https://docs.kernel.org/driver-api/vfio.html, Groups, Devices, and IOMMUs",
)
def no_group(patient: Patient, guest: Guest) -> Iterator[Seen]:
    host = patient.host
    # If there is no group at all, the IOMMU is off, which is a finding of its own.
    loose = [
        device.address
        for device in passed(patient, guest)
        if device.kind and host.link(f"{DEVICES}/{device.address}/iommu_group") is None
    ]
    if loose and host.names(GROUPS):
        yield Seen(
            f"{', '.join(loose)} {verb(len(loose))} in no IOMMU group",
            "try another slot; switch off VMD and the like in the firmware's setup",
        )


@guest_rule(
    "device-mdev-absent",
    "error",
    why="libvirt does not start a domain whose mediated device is missing, and the kernel "
    "forgets mediated devices at each boot.",
    source="https://docs.kernel.org/driver-api/vfio-mediated-device.html",
)
def mdev(patient: Patient, guest: Guest) -> Iterator[Seen]:
    sources = guest.xml.iterfind("devices/hostdev[@type='mdev']/source/address")
    names = [one.get("uuid", "") for one in sources]
    gone = [name for name in names if not patient.host.exists(f"{MDEVS}/{name.lower()}")]
    # What keeps [[mdev]] from making them is a finding of its own.
    if gone and patient.host.names(DEVICES) and "mdev" not in patient.tables:
        yield Seen(
            f"this host has no mediated device {', '.join(gone)}",
            "[[mdev]] in vm.toml makes it while the VM runs; virsh nodedev-define, with "
            "nodedev-autostart, from each boot on",
        )


@guest_rule(
    "device-not-managed",
    "error",
    why="With managed='no' something has to bind the device to vfio-pci before the start. "
    "Otherwise libvirt refuses it.",
    source=_SOURCE,
)
def managed(patient: Patient, guest: Guest) -> Iterator[Seen]:
    loose = [
        device
        for device in passed(patient, guest)
        if not device.managed
        and device.kind
        and not is_vfios(device.driver)
        and not is_shown_to_vfio(patient.host, device.address)
    ]
    if loose and "pci" not in patient.tables:
        shown = ", ".join(f"{one.address} ({one.driver or 'no driver'})" for one in loose)
        yield Seen(
            f"managed='no', but not bound to vfio-pci, and vm.toml has no [pci]: {shown}",
            edits=tuple(Edit(one.path, {"managed": "yes"}) for one in loose),
        )


@guest_rule(
    "iommufd-missing",
    "error",
    why="The domain asks for IOMMUFD, but the kernel does not have it. Debian's kernels are "
    "built without it.",
    source="https://libvirt.org/news.html, 12.1 and 12.2; the kernel's CONFIG_IOMMUFD",
)
def iommufd(patient: Patient, guest: Guest) -> Iterator[Seen]:
    asked = attribute(guest, "iommufd", "enabled") == "yes" or any(
        one.get("iommufd") == "yes" for one in guest.xml.iterfind("devices/hostdev/driver")
    )
    if asked and shows_files(patient.host) and not patient.host.exists("/dev/iommu"):
        yield Seen(
            "the domain asks for iommufd, but this host has no /dev/iommu",
            "modprobe iommufd; if the kernel does not have it, remove iommufd from the XML: VFIO "
            "works without it",
        )


@guest_rule(
    "disk-nvme-apparmor",
    "error",
    why="libvirt's AppArmor profile of the guest does not name the VFIO group of an NVMe disk, "
    "so QEMU may not open the group and the start fails. For a <hostdev> the profile names it.",
    source="libvirt's virt-aa-helper.c; tried with libvirt 12.8",
)
def nvme(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if patient.host.maybe("/sys/module/apparmor/parameters/enabled") != "Y":
        return
    found = [f.address for _, f in pci_functions(guest.xml) if f.origin == "disk"]
    if found:
        yield Seen(
            f"{', '.join(found)} is a <disk type='nvme'>, which AppArmor keeps from QEMU",
            "pass the controller as <hostdev mode='subsystem' type='pci' managed='yes'>; the "
            "guest needs an NVMe driver, as it does now",
        )


_VFIO_LINE = re.compile(r"^\s*(\d+):.*vfio-intx\(([0-9a-f:.]+)\)", re.MULTILINE)


@guest_rule(
    "device-line-interrupt",
    "warning",
    why="The host masks and unmasks a line interrupt each time, and devices may share it. "
    "Message-signalled interrupts go straight to the guest.",
    source="guide: PCIe Device interrupts",
)
def line_interrupts(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not guest.running:
        return
    given = {function.address for _, function in pci_functions(guest.xml)}
    text = patient.host.maybe("/proc/interrupts") or ""
    for interrupt, address in _VFIO_LINE.findall(text):
        if address in given:
            yield Seen(
                f"device {address} uses the line interrupt {interrupt}",
                "in the guest: Windows: HKLM\\SYSTEM\\CurrentControlSet\\Enum\\PCI\\<device>\\"
                "<instance>\\Device Parameters\\Interrupt Management\\"
                "MessageSignaledInterruptProperties, MSISupported = 1 (DWORD), then restart it. "
                "Linux: remove pci=nomsi from its command line.",
            )


@guest_rule(
    "device-kvm-hidden",
    "hint",
    why="A Linux guest cannot use KVM's clock, nor any other help from KVM, while KVM is hidden. "
    "Only NVIDIA's Windows drivers before version 465 (2021) needed that.",
    source="hypervisor-features",
    sure="likely",
)
def hidden(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if is_windows(guest) or is_macos(guest) or own_cpu(guest) is not None:
        return
    gpus = [device for device in passed(patient, guest) if device.is_gpu]
    state = attribute(guest, "features/kvm/hidden", "state")
    if state == "on" and gpus:
        whose = "NVIDIA's" if gpus[0].vendor == NVIDIA else "a graphics card"
        yield Seen(
            f"KVM is hidden from the guest, although it is not Windows ({gpus[0].address} is "
            f"{whose})",
            edits=(put("features/kvm/hidden", state="off"),),
            by_hand=True,
        )


RULES = (absent, no_group, mdev, managed, iommufd, nvme, line_interrupts, hidden)
