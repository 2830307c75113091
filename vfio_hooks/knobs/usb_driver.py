"""The driver that one interface of a USB device is bound to."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.usb import DEVICES, DRIVERS, find
from vfio_hooks.knobs.aside import write_aside
from vfio_hooks.knobs.base import NO_DRIVER, Knob
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class UsbDriver(Knob):
    """The driver of interface "1.0" of the device at `path`, "1-4"; the value is its name, or "no
    driver".

    If the device is plugged in elsewhere, it is recognised by its `ids` and `serial` number. A
    device without a serial number that is not at its `place` (more reliable than the path, if it is
    known) counts as the same only if there is no other of its kind. The driver is bound by name and
    not by a probe, because the kernel would choose the first driver that fits.
    """

    path: str
    interface: str
    ids: str
    serial: str = ""
    seconds: float = 10
    place: str = ""
    kind = "usb-driver"
    # Between unbind and bind an interface has neither the old driver nor the new one.
    atomic = False

    @property
    def key(self) -> str:
        return f"{DEVICES}/{self.path}:{self.interface}/driver"

    def read(self, host: Host) -> str:
        return host.link(f"{DEVICES}/{self._name(host)}/driver") or NO_DRIVER

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        return {self.key: None if value == NO_DRIVER else value}

    def _write(self, host: WritableHost, value: str) -> None:
        name = self._name(host)
        now = self.read(host)
        if now not in (NO_DRIVER, value):
            self._unbind(host, name, now)
        if value != NO_DRIVER and self.read(host) != value:
            if not host.exists(f"{DRIVERS}/{value}"):
                self._load(host, name, value)
            self._bind(host, name, value)

    @property
    def lag(self) -> float:
        return self.seconds

    def _name(self, host: Host) -> str:
        device = find(host, self.path, self.ids, self.serial, self.place)
        if device is None:
            raise Gone(f"USB {self.path} ({self.ids}): the device is not plugged in")
        name = f"{device.path}:{self.interface}"
        if not host.exists(f"{DEVICES}/{name}"):
            raise Gone(f"USB {name} ({self.ids}): the device has no such interface now")
        return name

    def _load(self, host: WritableHost, name: str, driver: str) -> None:
        """Load a driver's module. If it does not have the driver's name, the device's alias finds
        it."""
        alias = host.maybe(f"{DEVICES}/{name}/modalias")
        try:
            host.run(["modprobe", "--", driver], self.seconds)
        except HookError:
            if not alias:
                raise
            host.run(["modprobe", "-b", "--", alias], self.seconds)

    def _unbind(self, host: WritableHost, name: str, driver: str) -> None:
        """Unbind in a child process: a driver's disconnect routine waits for its transfers."""
        path = f"{DRIVERS}/{driver}/unbind"
        # Somebody else may have unbound it first.
        write_aside(host, name, path, name, self.seconds, "unbind", (errno.ENODEV,))

    def _bind(self, host: WritableHost, name: str, driver: str) -> None:
        path, hint = f"{DRIVERS}/{driver}/bind", "this driver may not support this kind of device"
        write_aside(host, name, path, name, self.seconds, "bind", (errno.EBUSY,), hint)
