"""The files of journals: read whole, and appended to so that nothing is lost in a crash."""

from __future__ import annotations

import errno
import os
import stat

from vfio_hooks.errors import Gone, HookError, reason


class Disk:
    """All writes to the files of a state folder. Journals stay open until `close`."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def append(self, path: str, lines: bytes) -> None:
        """Add lines in one write and wait until they are on disk. Raises OSError."""
        if path not in self._open:
            self._open[path] = _open_whole(path)
        try:
            if os.write(self._open[path], lines) != len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._open[path])
        except OSError:
            # Opening the file again cuts off a torn last line.
            os.close(self._open.pop(path))
            raise

    def remove(self, path: str) -> None:
        """Remove a file that may be gone already. Raises OSError."""
        if path in self._open:
            os.close(self._open.pop(path))
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass

    def stamp(self, path: str, at: int) -> None:
        """Make an empty file with a modification time, in ns since 1970. Raises OSError."""
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        os.utime(path, ns=(at, at))

    def resize(self, path: str, size: int) -> None:
        """Give a file this many bytes, zeros where it had fewer: they take no room, so this works
        on a full disk, too. Raises OSError."""
        os.truncate(path, size)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


def read(path: str) -> bytes:
    """The bytes of a journal. Raises HookError, and Gone if it does not exist any more."""
    try:
        descriptor = _open_plain(path)
        with open(descriptor, "rb", buffering=0) as file:
            return file.readall()
    except FileNotFoundError:
        raise Gone(f"{path}: this journal does not exist") from None
    except OSError as error:
        raise HookError(
            f"{path}: cannot read the journal: {reason(error)}",
            "look at what it is, then remove it",
        ) from None


def _open_whole(path: str) -> int:
    """Open a journal for appending. What a crash left of a last line is cut off, or the next
    record would become part of it. Raises OSError."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _open_plain(path: str) -> int:
    """Open a regular file, not a link or device that was put in its place. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return descriptor
