"""Files that make the kernel do something, and have no value."""

from __future__ import annotations

from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class Trigger(Knob):
    """A file that is only written, such as drop_caches. There is nothing to undo."""

    path: str
    kind = "trigger"
    is_read_back = False

    @property
    def key(self) -> str:
        return self.path

    def read(self, host: Host) -> str:
        return ""

    def _write(self, host: WritableHost, value: str) -> None:
        write_file(host, self.path, value)
