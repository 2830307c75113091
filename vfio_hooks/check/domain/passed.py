"""The devices that the domain is given: on the host, readable, bound, and how they interrupt."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import NVIDIA, closed, passed, shows_files
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain import pci_functions
from vfio_hooks.domain.editing import Fix
from vfio_hooks.host.pci import DEVICES

if TYPE_CHECKING:
    from lxml.etree import _Element


@guest_rule(
    "device-absent",
    "error",
    why="The domain does not start without a device that it names.",
    source="host-device-assignment",
)
def absent(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not patient.host.names(DEVICES):
        return
    for _, function in pci_functions(guest.xml):
        if not patient.host.exists(f"{DEVICES}/{function.address}"):
            yield Seen(
                f"this host has no device {function.address}",
                f"look for its address now: lspci -D. Numbers change when a card is added, or the "
                f"firmware is updated. A VF is there after its card was told to make some "
                f"([[sriov]] in vm.toml). Without the device: remove its <{function.origin}>",
            )


@guest_rule(
    "device-not-managed",
    "error",
    why="With managed='no' somebody has to bind the device to vfio-pci before the start; else "
    "libvirt refuses it.",
    source="host-device-assignment",
)
def managed(patient: Patient, guest: Guest) -> Iterator[Seen]:
    loose = [
        device
        for device in passed(patient, guest)
        if not device.managed and device.kind and "vfio" not in (device.driver or "")
    ]
    if not loose or "pci" in patient.tables:
        return
    for device in loose:
        yield Seen(
            f"{device} has managed='no' and the driver {device.driver or 'none'}, and vm.toml has "
            "no [pci]",
            f"in the <hostdev> of {device.address}: managed='yes'",
            _managed(device.address),
        )


def _managed(address: str) -> Fix:
    def fix(root: "_Element") -> None:
        for element, function in pci_functions(root):
            if function.address == address:
                element.set("managed", "yes")

    return fix


@guest_rule(
    "device-rom-file",
    "error",
    why="QEMU does not start when it cannot read the ROM that it is to show to the guest.",
    source="host-device-assignment",
)
def rom(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for address, path in _roms(patient, guest):
        try:
            found = closed(patient.host, path)
        except (FileNotFoundError, NotADirectoryError):
            yield Seen(
                f"the ROM file of {address}, {path}, is not there",
                f"put it there, or remove <rom file='{path}'/>",
            )
            continue
        if found and found.is_roots and not _is_root(patient):
            yield Seen(
                f"the ROM file of {address}, {path}, is only for root to read, as {found.path} "
                "is, and QEMU is not root",
                f"chmod o+r {path}"
                if found.path == path
                else "put it where everybody may read it, such as /usr/share/vgabios, and change "
                "<rom file=…/>",
            )


@guest_rule(
    "device-rom-owner",
    "hint",
    why="QEMU runs as the user and group of qemu.conf, and does not start when it cannot read the "
    "ROM that it is to show to the guest.",
    source="host-device-assignment",
    sure="possible",
)
def rom_owner(patient: Patient, guest: Guest) -> Iterator[Seen]:
    for address, path in _roms(patient, guest):
        try:
            found = closed(patient.host, path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found and not found.is_roots and not _is_root(patient):
            yield Seen(
                f"{found.path} is not for everybody, and the ROM file of {address} is {path}",
                f"unless its owner or group is QEMU's (user= and group= in {_QEMU_CONF}): "
                f"chmod o+{'r' if found.path == path else 'x'} {found.path}",
            )


_QEMU_CONF = "/etc/libvirt/qemu.conf"


def _roms(patient: Patient, guest: Guest) -> Iterator[tuple[str, str]]:
    """The ROM files that devices are given, where files can be seen."""
    for element, function in pci_functions(guest.xml):
        part = element.find("rom")
        path = part.get("file") if part is not None else None
        if path and shows_files(patient.host):
            yield function.address, path


def _is_root(patient: Patient) -> bool:
    return any(
        re.match(r'\s*user\s*=\s*"\+?(root|0)"', one) for one in patient.host.lines(_QEMU_CONF)
    )


_VFIO_LINE = re.compile(r"^\s*(\d+):.*vfio-intx\(([0-9a-f:.]+)\)", re.MULTILINE)


@guest_rule(
    "device-line-interrupt",
    "warning",
    why="A line interrupt is masked and unmasked by the host each time, and may be shared; "
    "message-signalled ones go straight to the guest.",
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
    "device-nvidia-hidden",
    "hint",
    why="GeForce drivers for Windows before 465 (2021) stop with code 43 where they see a "
    "hypervisor. Newer ones do not mind, and need none of this.",
    source="hypervisor-features",
    sure="possible",
)
def code_43(patient: Patient, guest: Guest) -> Iterator[Seen]:
    gpus = [device for device in passed(patient, guest) if device.is_gpu]
    hidden = guest.xml.find("features/kvm/hidden[@state='on']") is not None
    vendor = guest.xml.find("features/hyperv/vendor_id[@state='on']") is not None
    nvidia = [device for device in gpus if device.vendor == NVIDIA]
    windows = guest.xml.find("features/hyperv") is not None
    if nvidia and windows and not (hidden or vendor):
        yield Seen(
            f"{nvidia[0]} is NVIDIA's, and the guest sees KVM",
            "only for an old driver: <features><hyperv><vendor_id state='on' value='none'/>"
            "</hyperv><kvm><hidden state='on'/></kvm></features>",
        )
    elif hidden and gpus and not nvidia:
        yield Seen(
            f"KVM is hidden from the guest, and {gpus[0]} is not NVIDIA's",
            "<kvm><hidden state='off'/></kvm>, unless something else in the guest must not see it: "
            "a Linux guest has no KVM clock and no other help of KVM while it is hidden",
        )


RULES = (absent, managed, rom, rom_owner, line_interrupts, code_43)
