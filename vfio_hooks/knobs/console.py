"""The text console on the framebuffer."""

from __future__ import annotations

from vfio_hooks.errors import HookError, Immovable
from vfio_hooks.host.console import framebuffer_switches
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

BOUND, UNBOUND = "bound", "unbound"
_SOON = 3  # seconds: a driver makes its framebuffer while it takes the card


@record
class Console(Knob):
    """Whether the virtual terminals draw on a framebuffer: "bound" or "unbound".

    This is not a single file: the console goes away with the last framebuffer, and has another
    number when it comes back. `seconds` is how long a driver that has come back may take to show
    it.
    """

    seconds: float = 15
    kind = "console"

    @property
    def key(self) -> str:
        return "console on the framebuffer"

    def read(self, host: Host) -> str:
        switches = framebuffer_switches(host)
        return BOUND if any(host.maybe(switch) == "1" for switch in switches) else UNBOUND

    def _write(self, host: WritableHost, value: str) -> None:
        if value == UNBOUND:
            self._unbind(host)
            return
        if not until(lambda: bool(framebuffer_switches(host)), min(self.seconds, _SOON)):
            # vfio-pci removes the firmware's framebuffer, and nvidia's driver may not have one.
            raise Immovable("there is no framebuffer for the text console to draw on")

        def bound() -> bool:
            for switch in framebuffer_switches(host):
                write_file(host, switch, "1")
            return self.read(host) == BOUND

        if not until(bound, self.seconds):
            raise HookError(
                f"the text console is still off after {self.seconds:g} s",
                "switch to another terminal and back (chvt 2; chvt 1); a program that shows "
                "graphics there keeps it off",
            )

    def _unbind(self, host: WritableHost) -> None:
        for switch in framebuffer_switches(host):
            write_file(host, switch, "0")
        if self.read(host) != UNBOUND:
            # The kernel refuses without an error while a terminal is in graphics mode.
            raise HookError(
                "the text console cannot be unbound: a program shows graphics on a terminal",
                "end it; `fgconsole` prints the number of the terminal that is shown",
            )

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        """A graphics driver takes the console with it when it goes."""
        return live == UNBOUND

    def lends(self, value: str) -> str:
        return f"{value}; it goes and comes back together with the card's driver"
