"""The report of a rehearsal: a file in which each line is on disk before its step is done.

So it is complete up to the last step, even if the host hangs.
"""

import os
import time
from collections.abc import Sequence

from vfio_hooks.errors import HookError, reason
from vfio_hooks.log import SystemdJournal

FOLDER = "/var/lib/vfio-hooks/rehearsals"
VERDICT = "verdict: "
EQUAL = f"{VERDICT}equal"


def new_path(vm: str, folder: str = FOLDER) -> str:
    """The path of the report of a rehearsal that begins now. Raises HookError."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HookError(f"{folder}: cannot make the folder: {reason(error)}") from None
    return f"{folder}/{vm.replace('/', '_')}-{time.strftime('%Y%m%d-%H%M%S')}.txt"


class Report:
    """A report that is being written. What goes wrong is also logged, for the VM."""

    def __init__(self, path: str, vm: str) -> None:
        self._path = path
        self._vm = vm
        self._log = SystemdJournal(event="rehearse", event_of=vm)

    def tell(self, text: str) -> None:
        """Add a line, with the time of day. Raises OSError."""
        self._log.info(f"{self._vm}: rehearse: {text}", self._vm)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            os.write(descriptor, f"{time.strftime('%T')} {text}\n".encode(errors="replace"))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def conclude(self, found: Sequence[str]) -> None:
        """Add the verdict: equal, or a line for each thing that differs or went wrong."""
        for line in found or ["equal"]:
            self.tell(f"{VERDICT}{line}")
