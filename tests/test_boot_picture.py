"""The firmware's picture on a card that is lent, on trees and on the fake kernel."""

from contextlib import suppress
from pathlib import Path

import pytest

from tests.fakes.kernel import Kernel, a_host
from tests.hosttree import add_pci
from tests.test_session import firmware
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs.boot_picture import BootPicture
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.plugins import pci

CARD = "0000:0a:00.0"
DEVICE = f"/sys/bus/pci/devices/{CARD}"
BARS = "0xd0000000 0xdfffffff 0x0014220c\n"


def a_tree(folder: Path, driver: str | None, iomem: str) -> Host:
    add_pci(folder, CARD, driver)
    (folder / "sys/bus/pci/drivers/vfio-pci").mkdir(parents=True, exist_ok=True)
    (folder / DEVICE[1:] / "resource").write_text(BARS)
    (folder / "proc").mkdir()
    (folder / "proc/iomem").write_text(f"  d0000000-dfffffff : {CARD}\n{iomem}")
    return Host(str(folder))


def planned(host: Host) -> list[str]:
    domain = Domain("win11", "-", pci=(PciFunction(CARD, True, "hostdev"),))
    steps = pci.plan(Event("win11", "prepare"), domain, pci.Options(), host)
    return [step.key for step in steps][:-1]


PICTURE = f"the firmware's picture on {CARD}"
EFI = "/sys/bus/platform/devices/efi-framebuffer.0/driver"
SIMPLE = "/sys/bus/platform/devices/simple-framebuffer.0/driver"


@pytest.mark.parametrize(
    ("driver", "device", "claim", "expected"),
    [
        ("vfio-pci", "efi-framebuffer.0", "efifb", [EFI, PICTURE]),
        ("vfio-pci", "simple-framebuffer.0", "BOOTFB", [SIMPLE, PICTURE]),
        # The device has no driver, as with simpledrm left out of the kernel.
        ("vfio-pci", "", "BOOTFB", [PICTURE]),
        (None, "efi-framebuffer.0", "efifb", [EFI]),
        ("vfio-pci", "", "", []),
        # The host's driver has taken it off; where it has not, that is [session]'s.
        ("amdgpu", "", "amdgpu", []),
    ],
)
def test_it_is_taken_off_whatever_driver_the_card_has(
    tmp_path: Path, driver: str | None, device: str, claim: str, expected: list[str]
) -> None:
    host = a_tree(tmp_path, driver, f"    d0000000-d07e8fff : {claim}\n" if claim else "")
    if device:
        firmware(tmp_path, f"sys/devices/platform/{device}")
    assert planned(host) == expected


class Booted(Kernel):
    """Its firmware's picture goes when vfio-pci takes the card, if `goes`."""

    goes = True

    def probe(self, address: str) -> None:
        super().probe(address)
        if self.goes and self.link(f"{DEVICE}/driver") == "vfio-pci":
            self.files["/proc/iomem"] = f"d0000000-dfffffff : {CARD}\n"


def booted_with(driver: str) -> Booted:
    """A host whose card has this driver."""
    kernel = Booted()
    kernel.files |= a_host().files
    kernel.add_pci(CARD, None)
    kernel.files[f"{DEVICE}/resource"] = BARS
    PciDriver(CARD).write(kernel, driver)
    return kernel


@pytest.mark.parametrize(
    ("bound", "uses"), [("amdgpu", "amdgpu"), ("no driver", "BOOTFB"), ("vfio-pci", "")]
)
def test_a_card_is_not_taken_anew_without_need(bound: str, uses: str) -> None:
    """Its driver is the host's, or nothing of the firmware's is on it."""
    kernel = booted_with(bound)
    kernel.files["/proc/iomem"] = f"d0000000-dfffffff : {CARD}\n"
    kernel.files["/proc/iomem"] += f"  d0000000-d07e8fff : {uses}\n" if uses else ""
    written, write = list[str](), kernel.write

    def noted(name: str, text: str) -> None:
        written.append(name)
        write(name, text)

    kernel.write = noted  # type: ignore[method-assign]
    with suppress(HookError):
        BootPicture(CARD, 0.1).write(kernel, "none")
    assert written == []


@pytest.mark.parametrize("bound", ["vfio-pci", "vfio-pci (override vfio-pci)"])
@pytest.mark.parametrize("goes", [True, False])
def test_vfio_takes_the_card_anew(bound: str, goes: bool) -> None:
    kernel = booted_with(bound)
    kernel.goes = goes
    kernel.files["/proc/iomem"] = f"d0000000-dfffffff : {CARD}\n  d0000000-d07e8fff : BOOTFB\n"
    knob = BootPicture(CARD, 0.1)
    if goes:
        knob.write(kernel, "none")
        assert knob.read(kernel) == "none"
    else:
        with pytest.raises(HookError, match="its memory is still used by BOOTFB"):
            knob.write(kernel, "none")
    assert PciDriver(CARD).read(kernel) == bound
