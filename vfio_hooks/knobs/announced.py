"""Whether programs are told that the host has a graphics or sound card."""

from __future__ import annotations

from contextlib import suppress

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.udev import is_announced, settle
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

ANNOUNCED, WITHDRAWN = "announced", "withdrawn"


@record
class Announced(Knob):
    """A graphics or sound card, by its folder below a PCI function's: ".../drm/card1".

    A "remove" in its uevent file makes udev tell everyone that the card has gone, though its driver
    and its node stay: desktops and sound servers close it as if it had been pulled out. When a
    driver takes the card again the kernel announces it, so this does it only if no driver let go.
    Documentation/ABI/testing/sysfs-uevent.
    """

    folder: str
    seconds: float = 10
    kind = "announced"

    @property
    def key(self) -> str:
        return f"{self.folder}/uevent"

    def read(self, host: Host) -> str:
        if not host.exists(self.folder):
            raise Gone(f"{self.folder}: the card is gone, and comes back with its driver")
        return ANNOUNCED if is_announced(host, self.folder) else WITHDRAWN

    def shows(self, value: str) -> str:
        if value == WITHDRAWN:
            return "announced as gone, so that programs close it"
        return "programs may use it" if value == ANNOUNCED else value

    def _write(self, host: WritableHost, value: str) -> None:
        if value == ANNOUNCED:
            # The driver may have come back only now. Other events may take longer than this one.
            with suppress(HookError):
                settle(host, self.seconds)
        if self.read(host) == value:
            return
        # Sound servers wait for the "change" with which udev's rules say that a card is ready.
        known = "change" if "/sound/" in self.folder else "add"
        write_file(host, self.key, known if value == ANNOUNCED else "remove")
        if not until(lambda: self.read(host) == value, self.seconds):
            raise HookError(
                f"{self.folder}: udev has not {value} the card within {self.seconds:g} s",
                "systemctl status systemd-udevd may say why",
            )
