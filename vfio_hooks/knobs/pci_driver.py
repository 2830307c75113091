"""The driver that a PCI function is bound to, together with its driver_override.

https://docs.kernel.org/PCI/sysfs-pci.html and Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import errno
import re

from vfio_hooks.errors import Gone, HookError, Late
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.in_use import holders, holders_after, stuck_writer, told
from vfio_hooks.host.pci import DEVICES, DRIVERS, PROBE, is_for_guests
from vfio_hooks.knobs.aside import WHY, write_aside
from vfio_hooks.knobs.base import NO_DRIVER, FunctionKnob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until


@record
class Binding:
    """A function's driver and its driver_override, either of which may be absent."""

    driver: str | None
    override: str | None = None

    def __str__(self) -> str:
        return (self.driver or NO_DRIVER) + (
            f" (override {self.override})" if self.override else ""
        )

    @classmethod
    def parse(cls, text: str) -> Binding:
        """The binding that was printed as `text`. Raises ValueError."""
        found = re.fullmatch(rf"({NO_DRIVER}|\S+)(?: \(override (.+)\))?", text)
        if not found:
            raise ValueError(f"{text!r} is not a driver binding")
        return cls(None if found[1] == NO_DRIVER else found[1], found[2])


@record
class PciDriver(FunctionKnob):
    """The binding of one function, "0000:04:00.0", as text: "vfio-pci (override vfio-pci)".

    `seconds` is how long the old driver may take to let go and the new one to take hold, and
    with `wait` also how long programs may take to close the device first.
    """

    seconds: float = 30
    wait: bool = True
    kind = "pci-driver"
    # Between unbind and probe a function has neither the old driver nor the new one.
    atomic = False

    @property
    def key(self) -> str:
        return f"{DEVICES}/{self.address}/driver"

    def read(self, host: Host) -> str:
        folder = f"{DEVICES}/{self.address}"
        if not host.exists(folder):
            raise Gone(f"{self.address}: there is no such PCI device on this host")
        self._refuse_if_stuck(host)
        override = host.maybe(f"{folder}/driver_override")
        return str(
            Binding(host.link(self.key), None if override in (None, "", "(null)") else override)
        )

    def foresee(self, host: Host, value: str) -> dict[str, str | None]:
        own = Binding.parse(value)
        override = f"{DEVICES}/{self.address}/driver_override"
        return {self.key: own.driver, override: own.override or ""}

    def lends(self, value: str) -> str:
        """libvirt binds a managed function to vfio-pci, and leaves one that is bound to it."""
        is_bound = is_for_guests(value.partition(" ")[0])
        return f"{value} (stays)" if is_bound else f"{value} → vfio-pci (by libvirt)"

    def ready(self, host: Host) -> None:
        self._refuse_if_stuck(host)
        if not self.wait or is_for_guests(host.link(self.key)):
            return
        if found := holders_after(host, self.address, self.seconds):
            from vfio_hooks.host.freeing import how_to_free

            raise HookError(
                f"{self.address}: still in use after {self.seconds:g} s: {told(found)}",
                how_to_free(host, found),
            )

    def _write(self, host: WritableHost, value: str) -> None:
        self._refuse_if_stuck(host)
        wanted = Binding.parse(value)
        self._refuse_if_a_guest_has_it(host, wanted)
        override = f"{DEVICES}/{self.address}/driver_override"
        if host.link(self.key) != wanted.driver:
            # Aimed at the new driver before the old one is unbound, so that no probe in between
            # (by udev, or a module that is loaded) can take the function.
            if wanted.driver:
                write_file(host, override, wanted.driver)
            self._unbind(host)
            if wanted.driver:
                self._probe(host, wanted.driver)
        if Binding.parse(self.read(host)).override != wanted.override:
            write_file(host, override, wanted.override or "\n")

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        """libvirt binds a managed function to vfio-pci, and clears its override when it gives the
        function back: to whatever driver matches, or to none if that driver is not loaded."""
        now, own = Binding.parse(live), Binding.parse(base)
        if now.driver in (None, own.driver) or is_for_guests(now.driver):
            return True
        return value is None and own.driver is not None and now.override is None

    def is_back(self, host: Host, base: str) -> bool:
        own = Binding.parse(base).driver
        # A function that vfio-pci has had since boot looks the same while a guest has it.
        return host.link(self.key) == own and not is_for_guests(own)

    def _refuse_if_stuck(self, host: Host) -> None:
        pid = stuck_writer(host, self.address)
        if pid is not None:
            raise HookError(
                f"{self.address}: its driver has not let go of it yet (pid {pid} waits in the "
                f"kernel; "
                f"{told(holders(host, self.address))})",
                "close what has it open; if that does not help, reboot",
            )

    def _refuse_if_a_guest_has_it(self, host: Host, wanted: Binding) -> None:
        """It may have been attached to another VM by now, for which libvirt calls no hook."""
        driver = host.link(self.key)
        if driver == wanted.driver or not is_for_guests(driver):
            return
        if users := holders(host, self.address):
            raise HookError(
                f"{self.address}: a running guest has it: {told(users)}",
                "stop that guest, then run vfio-hooks undo with the name of the VM that had it "
                "first",
            )

    def _aside(self, host: WritableHost, path: str, action: str, *tolerated: int) -> None:
        write_aside(host, self.address, path, self.address, self.seconds, action, tolerated)

    def _unbind(self, host: WritableHost) -> None:
        driver = host.link(self.key)
        if driver is None:
            return
        # Looked up now: a driver removes its device nodes, and then waits for those who have them
        # open.
        users = holders(host, self.address)
        try:
            # Somebody else may unbind it between our check and our write.
            self._aside(host, f"{self.key}/unbind", "unbind", errno.ENODEV, errno.ENOENT)
        except Late:
            still = [user for user in users if host.exists(f"/proc/{user.pid}")]
            raise HookError(
                f"{self.address}: {driver} did not let go within {self.seconds:g} s: {told(still)}",
                "close what has it open and start the VM again",
            ) from None

    def _probe(self, host: WritableHost, driver: str) -> None:
        if not host.exists(f"{DRIVERS}/{driver}"):
            self._load(host, driver)

        def bound() -> bool:
            # A probe may go on in the background, as with nvme, and a device that has just been
            # reset may need a second try.
            if host.link(self.key) is None:
                self._aside(host, PROBE, "probe")
            return host.link(self.key) == driver

        if not until(bound, self.seconds):
            raise HookError(
                f"{self.address}: {driver} did not take the device within {self.seconds:g} s",
                WHY,
            )

    def _load(self, host: WritableHost, driver: str) -> None:
        """Load the module of a driver that is not there. Its name need not be the driver's
        (bochs-drm is bochs.ko), so the device's own modalias says which; -b keeps what the
        administrator blacklisted away. vfio's aliases never match a bare modalias."""
        if is_for_guests(driver):
            host.run(["modprobe", "--", driver], self.seconds)
            return
        modalias = host.maybe(f"{DEVICES}/{self.address}/modalias")
        if modalias:
            host.run(["modprobe", "-b", "--", modalias], self.seconds)
