"""Whether a PCI function comes back to its former driver, if necessary by a rescan of the whole
bus."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.in_use import stuck_writer
from vfio_hooks.host.pci import BUS, DEVICES, PROBE, is_for_guests
from vfio_hooks.knobs.aside import WHY, write_aside
from vfio_hooks.knobs.base import NO_DRIVER, FunctionKnob
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

ABSENT = "not on the bus"


@record
class PciReturn(FunctionKnob):
    """The driver of a function, "0000:04:00.0", for a claim that only sees to its return.

    It is claimed before the function is given away, so its undo comes after the function was given
    back. If no driver has taken the function by then, it is removed, and the bus is rescanned: the
    kernel then sets it up from the beginning, which is more than a probe does. A function that
    something still has is left alone. `seconds` is the limit for each of these. "remove" and
    "rescan" in Documentation/ABI/testing/sysfs-bus-pci.
    """

    seconds: float = 30
    kind = "pci-return"
    # Between remove and rescan there is no such device.
    atomic = False

    @property
    def key(self) -> str:
        return f"{DEVICES}/{self.address}, when it comes back"

    def read(self, host: Host) -> str:
        if not host.exists(f"{DEVICES}/{self.address}"):
            return ABSENT
        return host.link(f"{DEVICES}/{self.address}/driver") or NO_DRIVER

    def _write(self, host: WritableHost, value: str) -> None:
        now = self.read(host)
        if is_for_guests(now) or stuck_writer(host, self.address) is not None:
            raise HookError(f"{self.address}: {now} still has the device", "vfio-hooks status")
        if now != ABSENT:
            host.tell(f"{self.address}: {now}: removing the device and rescanning the bus")
            self._aside(host, f"{DEVICES}/{self.address}/remove", "1", "remove")
        self._aside(host, f"{BUS}/rescan", "1", "rescan the bus")

        def taken() -> bool:
            if self.read(host) == NO_DRIVER:
                self._aside(host, PROBE, self.address, "probe")
            return self.read(host) == value

        if not until(taken, self.seconds):
            raise HookError(
                f"{self.address}: {value} does not take the device, even after it was removed "
                f"and found again: {self.read(host)}",
                f"{WHY}; a suspend or a reboot may help",
            )

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        return live in (NO_DRIVER, ABSENT) or is_for_guests(live)

    def is_back(self, host: Host, base: str) -> bool:
        return self.read(host) == base and not is_for_guests(base)

    def lends(self, value: str) -> str:
        return f"{value}; if {value} does not take it, it is removed and the bus is rescanned"

    def _aside(self, host: WritableHost, path: str, text: str, action: str) -> None:
        write_aside(host, self.address, path, text, self.seconds, action)
