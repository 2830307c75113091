"""What the firmware's setup decides: UEFI, the first display, large BARs.

Documentation/ABI/testing/sysfs-bus-pci: boot_vga, resource, resourceN_resize
"""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.domain import pci_functions
from vfio_hooks.host import Host, boot, pci
from vfio_hooks.record import record

_GUIDE = "guide: Host Configurations"
_PREFETCH, _WIDE = 0x2000, 0x100000  # IORESOURCE_ of include/linux/ioport.h
_CARD = 64 << 20
"""A graphics card's window is larger than this; that of an emulated or server's one is not."""


@rule(
    "legacy-boot",
    "host",
    "warning",
    why="If the host boots through the legacy BIOS (CSM), the firmware starts cards with their "
    "VGA BIOS, which a guest with UEFI cannot repeat. Large BARs are mostly not available.",
    source=_GUIDE,
)
def legacy(patient: Patient) -> Iterator[Seen]:
    if patient.host.exists("/sys/firmware/acpi") and not patient.host.exists("/sys/firmware/efi"):
        yield Seen(
            "this host was booted without UEFI (no /sys/firmware/efi)",
            "switch CSM off in the firmware's setup; the boot loader must support UEFI",
        )


@rule(
    "boot-display-passed",
    "host",
    "warning",
    why="The firmware and the kernel's console have used this card since boot, its ROM may be "
    "hidden by the firmware's copy, and the desktop depends on it.",
    source=_GUIDE,
)
def boot_display(patient: Patient) -> Iterator[Seen]:
    guest, host = patient.guest, patient.host
    for element, function in pci_functions(guest.xml) if guest else ():
        if host.maybe(f"{pci.DEVICES}/{function.address}/boot_vga") != "1":
            continue
        others = pci.kept_displays(host, guest.domain) if guest else []
        helps = [] if "session" in patient.tables else ["[session] in vm.toml"]
        if element.find("rom[@file]") is None and not others:
            helps.append("if the screen stays dark, add a ROM file: <rom file='/path/card.rom'/>")
        # With one card alone there is nothing else to choose.
        if others:
            yield Seen(
                f"{function.address} is the display that this host boots with",
                f"choose {others[0].address} as the initial display in the firmware's setup"
                + (f"; else {', and '.join(helps)}" if helps else ""),
            )
        elif "session" not in patient.tables:
            yield Seen(
                f"{function.address} is the only display of this host, which boots with it",
                "; ".join(helps),
            )


@rule(
    "efifb-off-without-effect",
    "host",
    "hint",
    why="video=efifb:off stops one driver of the firmware's picture. This kernel has another "
    "one, simpledrm, which takes the card's memory anyway.",
    source="https://docs.kernel.org/fb/efifb.html; Kconfig of Linux, SYSFB_SIMPLEFB",
)
def efifb(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    asked = any("efifb:off" in value for value in boot.values(host, "video"))
    devices = host.names("/sys/bus/platform/devices")
    if asked and any(name.startswith("simple-framebuffer") for name in devices):
        yield Seen(
            "video=efifb:off is on the kernel's command line, but there is a simple-framebuffer",
            "remove it; [pci] in vm.toml removes the picture from the passed card",
        )


@rule(
    "above-4g-off",
    "host",
    "warning",
    why="If all memory windows of the cards have to fit below 4 GiB, they are small, or missing "
    "if there are several cards.",
    source=_GUIDE,
    sure="likely",
)
def above_4g(patient: Patient) -> Iterator[Seen]:
    windows = [
        bar
        for address in _cards(patient)
        for bar in _bars(patient.host, address)
        if bar.is_wide and bar.size > _CARD
    ]
    if windows and all(bar.start < 1 << 32 for bar in windows):
        shown = ", ".join(f"{bar.address} BAR {bar.number} at {bar.start:#x}" for bar in windows)
        yield Seen(
            f"all large windows of graphics cards are below 4 GiB: {shown}",
            "switch Above 4G Decoding on in the firmware's setup",
        )


@rule(
    "rebar-small",
    "host",
    "hint",
    why="Through a BAR as large as the card's memory, the CPU can reach all of it at once "
    "(Resizable BAR). A guest gets the size that the host has set.",
    source=f"sysfs-bus-pci of Linux, resourceN_resize; {_GUIDE}",
)
def rebar(patient: Patient) -> Iterator[Seen]:
    for address in _cards(patient):
        for bar in _bars(patient.host, address):
            largest = _largest(patient.host, bar)
            if largest > bar.size:
                # The file takes the exponent of a size in MiB.
                number = (largest >> 20).bit_length() - 1
                path = f"{pci.DEVICES}/{address}/resource{bar.number}_resize"
                yield Seen(
                    f"{address}: BAR {bar.number} is {bar.size >> 20} MiB, and could be "
                    f"{largest >> 20} MiB",
                    "switch Resizable BAR and Above 4G Decoding on in the firmware's setup; or, "
                    f"while the card has no driver: echo {number} > {path}",
                )


@record
class _Bar:
    """A 64-bit prefetchable memory window, if it `is_wide`; start and size in bytes."""

    address: str
    number: int
    start: int
    size: int
    is_wide: bool


def _cards(patient: Patient) -> list[str]:
    """The display controllers that are passed; without a domain, all of the host."""
    host, guest = patient.host, patient.guest
    known = [one.address for one in guest.domain.pci] if guest else host.names(pci.DEVICES)
    return [
        address
        for address in known
        if (host.maybe(f"{pci.DEVICES}/{address}/class") or "").startswith(pci.DISPLAY_CLASS)
    ]


def _bars(host: Host, address: str) -> Iterator[_Bar]:
    for number, start, end, flags in pci.bars(host, address):
        if flags & pci.IORESOURCE_MEM:
            wide = bool(flags & _WIDE and flags & _PREFETCH)
            yield _Bar(address, number, start, end - start + 1, wide)


def _largest(host: Host, bar: _Bar) -> int:
    """The largest size that a BAR can have, in bytes; 0 where it has one size for good."""
    return max(pci.bar_sizes(host, bar.address, bar.number), default=0) << 20


RULES = (legacy, boot_display, efifb, above_4g, rebar)
