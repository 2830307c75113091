"""A PCI function that no program has open any more."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.freeing import is_desktops, service_of
from vfio_hooks.host.in_use import Holder, holders_after, is_users, told
from vfio_hooks.knobs.base import FunctionKnob
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfio_hooks.host import Host, WritableHost

FREE = "not in use"


@record
class Freed(FunctionKnob):
    """A function whose device nodes no program may have open. What the sessions of a display
    manager leave behind may take some seconds to end.

    With `end`, programs of user sessions that are left after a third of `seconds` are asked to end,
    and killed after two thirds. System services never are. With `desktop_stays`, the hint for the
    user does not suggest `end`.
    """

    seconds: float = 30
    end: bool = False
    desktop_stays: bool = False
    kind = "freed"
    is_read_back = False
    left = "nothing to undo"

    @property
    def key(self) -> str:
        return f"{self.address}'s device nodes"

    def read(self, host: Host) -> str:
        return ""

    def _write(self, host: WritableHost, value: str) -> None:
        if self.end:
            for signal in ("TERM", "KILL"):
                for holder in holders_after(host, self.address, self.seconds / 3):
                    self._signal(host, holder, signal)
        seconds = self.seconds / 3 if self.end else self.seconds
        if found := holders_after(host, self.address, seconds):
            raise HookError(
                f"{self.address}: still in use after {self.seconds:g} s: {told(found)}",
                service_of(host, found) or self._advice(found),
            )

    def _advice(self, found: Sequence[Holder]) -> str:
        if self.desktop_stays and is_desktops(found):
            return "as the desktop stays, use [display] in vm.toml, which makes it close the card"
        if self.end or self.desktop_stays:
            return "end it before the VM starts"
        return 'end it before the VM starts, or set leftovers = "end" in [session]'

    def shows(self, value: str) -> str:
        return "waits until no program has them open"

    def _signal(self, host: WritableHost, holder: Holder, signal: str) -> None:
        if not is_users(host, holder.pid):
            return
        host.tell(f"{self.address}: {holder}: {signal}")
        try:
            # By a command, because AppArmor lets a hook with libvirtd's profile signal only a few
            # processes.
            host.run(["kill", f"-{signal}", str(holder.pid)])
        except HookError:
            return  # It has ended in the meantime.
