"""Kernel modules."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.in_use import driver_users, told
from vfio_hooks.host.pci import DEVICES, PROBE
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

LOADED, ABSENT = "loaded", "not loaded"


@record
class Module(Knob):
    """A kernel module, loaded with what it needs, with its options of modprobe.d and `options`:
    "size=4".

    `functions` are PCI functions that must have a driver after the module is loaded. They have
    `seconds` for that, and so have users of the module to let go of it before it is unloaded.
    """

    name: str
    functions: tuple[str, ...] = ()
    seconds: float = 30
    options: tuple[str, ...] = ()
    kind = "module"
    # A module that is built into the kernel may have no folder, but modprobe succeeds.
    is_read_back = False

    @property
    def key(self) -> str:
        return f"/sys/module/{self.name.replace('-', '_')}"

    def read(self, host: Host) -> str:
        return LOADED if host.exists(self.key) else ABSENT

    def _write(self, host: WritableHost, value: str) -> None:
        if value == LOADED:
            host.run(["modprobe", "--", self.name, *self.options])
            self._bind(host)
        else:
            self._unload(host)

    def _bind(self, host: WritableHost) -> None:
        idle: list[str] = []

        def bound() -> bool:
            there = (one for one in self.functions if host.exists(f"{DEVICES}/{one}"))
            idle[:] = [one for one in there if host.link(f"{DEVICES}/{one}/driver") is None]
            for address in idle:
                write_file(host, PROBE, address)
            return not idle

        if not until(bound, self.seconds):
            raise HookError(
                f"{', '.join(idle)}: {self.name} was loaded, and did not take the device within "
                f"{self.seconds:g} s",
                "see dmesg, or vfio-hooks why",
            )

    def _unload(self, host: WritableHost) -> None:
        """Unload it, but not by modprobe -r, which also removes other modules that are unused."""
        count = f"{self.key}/refcnt"
        if not until(lambda: host.maybe(count) in ("0", None), self.seconds):
            holders = ", ".join(host.names(f"{self.key}/holders"))
            who = f"by {holders}" if holders else told(driver_users(host, self.name))
            raise HookError(
                f"{self.name}: still in use after {self.seconds:g} s ({host.maybe(count)} times): "
                f"{who}",
                "end what uses it: `lsmod` and `lsof /dev/nvidia* /dev/dri/*` show what that is",
            )
        host.run(["rmmod", "--", self.name], self.seconds)
