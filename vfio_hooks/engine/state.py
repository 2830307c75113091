"""The folder of all journals, /run/vfio-hooks, and the one lock around it.

Only root can use the folder (0700) and the files in it (0600). It is gone after a reboot, and so is
everything that the journals list.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import contextmanager

from vfio_hooks import STATE
from vfio_hooks.engine.disk import Disk, read
from vfio_hooks.engine.journal import SUFFIX, Journal
from vfio_hooks.engine.sealed import Sealed, sealed
from vfio_hooks.errors import HookError, reason
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOCK_SECONDS = 300.0
_HEX = set("0123456789abcdef")


class StateFolder:
    """A state folder; `disk` is how its journals are written."""

    def __init__(self, path: str = STATE, disk: Disk | None = None) -> None:
        self.path = path
        self._lock = f"{path}/lock"
        self.disk = disk or Disk()

    def prepare(self) -> None:
        """Make the folder. Raises HookError, also if somebody else could have written to it."""
        try:
            os.makedirs(self.path, mode=0o700, exist_ok=True)
            seen = os.lstat(self.path)
        except OSError as error:
            raise HookError(f"{self.path}: cannot make the folder: {reason(error)}") from None
        if not stat.S_ISDIR(seen.st_mode):
            raise HookError(f"{self.path} is not a folder", "remove it and try again")
        if seen.st_uid != os.geteuid() or seen.st_mode & 0o022:
            raise HookError(
                f"{self.path}: users other than root may write to it",
                f"look at what is in it, then: chown root: {self.path}; chmod 700 {self.path}",
            )

    @contextmanager
    def locked(
        self, interrupted: Callable[[], None], seconds: float = LOCK_SECONDS
    ) -> Iterator[None]:
        """Hold the one lock: libvirt runs the hooks of different VMs at the same time.

        `interrupted` is called while waiting, and may raise. Raises HookError after `seconds`.
        """
        self.prepare()
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(self._lock, flags, 0o600)
        except OSError as error:
            raise HookError(
                f"{self._lock}: cannot open the lock: {reason(error)}",
                f"look at what {self._lock} is",
            ) from None

        def taken() -> bool:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                interrupted()
                return False
            return True

        try:
            if not until(taken, seconds):
                raise HookError(
                    f"{self._lock}: another vfio-hooks has held it for {seconds:g} s",
                    f"fuser {self._lock} names it",
                )
            yield
        finally:
            self.disk.close()
            os.close(descriptor)

    def is_busy(self) -> bool:
        """Whether some event is being handled at this moment."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)

    def unsettle(self) -> None:
        """Note that an event is under way: the lock's file is not empty until `settle`. If `settle`
        never comes, the event was cut off. The hook's first half, a shell script, sees it there,
        as it cannot read the journals. Raises HookError."""
        try:
            self.disk.resize(self._lock, 1)
        except OSError as error:
            raise HookError(f"{self._lock}: cannot write there: {reason(error)}") from None

    def settle(self) -> None:
        """Note that no event is under way."""
        if not self.is_unsettled():
            return
        try:
            self.disk.resize(self._lock, 0)
        except OSError:
            # If this fails, the next event reads all journals, and finds nothing to do.
            pass

    def is_unsettled(self) -> bool:
        """Whether an event is under way or was cut off."""
        try:
            return os.stat(self._lock).st_size > 0
        except OSError:
            return False

    def uuids(self) -> list[str]:
        """The UUIDs of the VMs that have a journal."""
        try:
            names = sorted(os.listdir(self.path))
        except FileNotFoundError:
            return []
        uuids = (name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX))
        return [uuid for uuid in uuids if is_uuid(uuid)]

    def find(self, vm: str) -> list[str]:
        """The UUIDs of the journals of VMs that have, or had, this name."""
        found = []
        for uuid in self.uuids():
            try:
                journal = self.load(uuid)
            except HookError:
                continue
            if vm in journal.names:
                found.append(uuid)
        return found

    def load(self, uuid: str) -> Journal:
        return Journal.load(self._file(uuid), self.disk)

    def look(self, uuid: str) -> Journal | Sealed:
        """A journal, which is only read line by line if it has to be: after a crash, or if it is
        damaged. Raises HookError, which says where."""
        data = read(self._file(uuid))
        return sealed(uuid, data) or self.understand(uuid, data)

    def understand(self, uuid: str, data: bytes) -> Journal:
        """The journal with these bytes. Raises HookError."""
        return Journal.understood(self._file(uuid), data, self.disk)

    def create(self, uuid: str, vm: str) -> Journal:
        return Journal(self._file(uuid), uuid, vm, self.disk)

    def _file(self, uuid: str) -> str:
        if not is_uuid(uuid):
            raise HookError(f"{uuid!r} is not a domain's UUID")
        return f"{self.path}/{uuid}{SUFFIX}"


def is_uuid(text: str) -> bool:
    """Whether a text is a UUID as in journals' names, "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"."""
    parts = text.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and not set("".join(parts)) - _HEX
