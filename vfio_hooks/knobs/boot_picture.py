"""The firmware's picture on a card that vfio-pci has."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.framebuffer import users_of_memory
from vfio_hooks.host.pci import is_for_guests
from vfio_hooks.knobs.base import FunctionKnob
from vfio_hooks.knobs.pci_driver import Binding, PciDriver
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class BootPicture(FunctionKnob):
    """The part of a card's memory that the kernel keeps for the firmware's picture, "BOOTFB" in
    /proc/iomem, on a card that a driver for guests has had since early in the boot. QEMU cannot map
    that memory.

    Since Linux 6.0 the kernel gives the memory up whenever vfio-pci takes a card, so the card is
    unbound and bound again. The picture does not come back before the next boot.
    """

    seconds: float = 30
    kind = "boot-picture"
    left = "nothing to undo: the host shows nothing on this card"

    @property
    def key(self) -> str:
        return f"the firmware's picture on {self.address}"

    def read(self, host: Host) -> str:
        return ", ".join(users_of_memory(host, self.address)) or "none"

    def _write(self, host: WritableHost, value: str) -> None:
        knob = PciDriver(self.address, self.seconds)
        before = knob.read(host)
        own = Binding.parse(before)
        if self.read(host) != "none" and is_for_guests(own.driver):
            knob.write(host, str(Binding(None, own.override)))
            knob.write(host, before)
        if (left := self.read(host)) != "none":
            raise HookError(
                f"{self.address}: its memory is still used by {left} (see /proc/iomem), so QEMU "
                "cannot have it",
                "make the firmware show its picture on another card; or boot without it: "
                "initcall_blacklist=sysfb_init helps if the kernel is older than 6.0",
            )

    def shows(self, value: str) -> str:
        return "given up"
