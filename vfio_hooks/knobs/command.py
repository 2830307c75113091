"""A command and the command that takes it back, for what has no value to read."""

import shlex
from typing import ClassVar

from vfio_hooks.host import Host, WritableHost
from vfio_hooks.knobs.base import Knob
from vfio_hooks.record import record
from vfio_hooks.sharing import DONE


@record
class Command(Knob):
    """Two argument lists. `undo` also runs when a crash left open whether `do` did, so it has
    to succeed where there is nothing to take back. `title` and `undo_title` are what people are
    shown in place of command lines that would tell them nothing."""

    do: tuple[str, ...]
    undo: tuple[str, ...]
    seconds: float = 30
    title: str = ""
    undo_title: str = ""
    kind: ClassVar[str] = "command"
    atomic: ClassVar[bool] = False

    @property
    def key(self) -> str:
        return shlex.join(self.do)

    @property
    def undo_text(self) -> str:
        return self.undo_title or shlex.join(self.undo)

    def read(self, host: Host) -> str:
        return ""

    def write(self, host: WritableHost, value: str) -> None:
        host.run(list(self.do if value == DONE else self.undo), self.seconds)
