"""A command and the command that takes it back, for what has no value to read."""

from __future__ import annotations

from vfio_hooks.errors import Gone
from vfio_hooks.knobs.base import Knob
from vfio_hooks.quoting import joined
from vfio_hooks.record import record
from vfio_hooks.sharing import DONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class Command(Knob):
    """Two argument lists. `undo` also runs if a crash left it open whether `do` has run, so it has
    to succeed if there is nothing to take back. `title` and `undo_title` are shown to people in
    place of command lines that would not help them. `unit` is the service that `do` leaves running
    until it is undone, "" for none."""

    do: tuple[str, ...]
    undo: tuple[str, ...]
    seconds: float = 30
    title: str = ""
    undo_title: str = ""
    unit: str = ""
    kind = "command"
    atomic = False
    is_read_back = False

    @property
    def key(self) -> str:
        return joined(self.do)

    @property
    def told(self) -> str:
        return self.title

    @property
    def undo_text(self) -> str:
        return self.undo_title or joined(self.undo)

    def died(self, host: Host) -> str:
        if not self.unit or not host.is_this_machine:
            return ""
        from vfio_hooks.host import units

        try:
            return "" if units.state(host, self.unit).runs else self.unit
        except Gone:
            return self.unit

    def read(self, host: Host) -> str:
        return ""

    def _write(self, host: WritableHost, value: str) -> None:
        host.run(list(self.do if value == DONE else self.undo), self.seconds)
