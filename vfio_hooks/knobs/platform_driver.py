"""The driver of a platform device, such as the framebuffer that the firmware set up."""

from __future__ import annotations

from vfio_hooks.errors import Gone
from vfio_hooks.host.framebuffer import PLATFORM
from vfio_hooks.knobs.aside import write_aside
from vfio_hooks.knobs.base import NO_DRIVER, Knob
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class PlatformDriver(Knob):
    """The driver of a platform device, "efi-framebuffer.0"; "no driver" for none.

    Since Linux 6.0 the device itself is removed when vfio-pci takes the card: then there is
    nothing to undo. `seconds` is how long the driver may take to let go.
    """

    device: str
    seconds: float = 30
    kind = "platform-driver"

    @property
    def key(self) -> str:
        return f"{PLATFORM}/devices/{self.device}/driver"

    def read(self, host: Host) -> str:
        if not host.exists(f"{PLATFORM}/devices/{self.device}"):
            raise Gone(f"{self.device}: the kernel has removed it")
        return host.link(self.key) or NO_DRIVER

    def _write(self, host: WritableHost, value: str) -> None:
        before = self.read(host)
        if before != NO_DRIVER:
            self._aside(host, before, "unbind")
        if value != NO_DRIVER:
            self._aside(host, value, "bind")

    def _aside(self, host: WritableHost, driver: str, verb: str) -> None:
        path = f"{PLATFORM}/drivers/{driver}/{verb}"
        write_aside(host, self.device, path, self.device, self.seconds, verb)
