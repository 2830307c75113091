"""Files and device nodes through which programs share memory: /dev/shm/NAME, /dev/kvmfr0.

Everybody may make files in /dev/shm, and may have put a trap for root there: a symbolic link, a
second name of another file, a file that is kept open to read along. So no link is followed, what
was opened is checked again, and our own files have a mark that only root can set (xattr(7),
"trusted") and that disappears with the file.
"""

from __future__ import annotations

import errno
import os
import stat

from vfio_hooks.record import record

MARK = "trusted.vfio-hooks"


@record
class Access:
    """Owner, group and permissions of a file; as text "64055:993 0660"."""

    uid: int
    gid: int
    mode: int

    def __str__(self) -> str:
        return f"{self.uid}:{self.gid} {self.mode:04o}"

    @classmethod
    def parse(cls, text: str) -> Access:
        owner, mode = text.split(" ")
        uid, gid = owner.split(":")
        return cls(int(uid), int(gid), int(mode, 8))


OURS_ALONE = Access(0, 0, 0o600)
"""The access of a new file, before it is given to anybody."""


@record
class Shared:
    """What is at a path: a file of `size` bytes, made by vfio-hooks or not, a character device,
    or something else, in words: "a symbolic link"."""

    access: Access
    size: int = 0
    is_made: bool = False
    is_device: bool = False
    other: str = ""


def look(path: str) -> Shared | None:
    """What is at a path, without following links; None if there is nothing. Raises OSError."""
    try:
        seen = os.lstat(path)
    except FileNotFoundError:
        return None
    access = Access(seen.st_uid, seen.st_gid, stat.S_IMODE(seen.st_mode))
    is_device = stat.S_ISCHR(seen.st_mode)
    other = _other(seen)
    made = not is_device and not other and _is_marked(path)
    return Shared(access, seen.st_size, made, is_device, other)


def make(path: str, size: int) -> None:
    """Make a marked file of zeros that only root can use. Raises OSError, with EEXIST if there is a
    file."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, OURS_ALONE.mode)
    try:
        os.fchmod(descriptor, OURS_ALONE.mode)  # whatever the umask is
        os.setxattr(descriptor, MARK, b"made")
        os.ftruncate(descriptor, size)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def give(path: str, access: Access) -> None:
    """Set owner, group and permissions. Raises OSError, with EINVAL for a file that must not be
    touched."""
    # Opening a device may have effects. O_PATH has none, and chown works on its descriptor.
    descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if _other(os.fstat(descriptor)):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), path)
        by_descriptor = f"/proc/self/fd/{descriptor}"
        # First with no permissions, so that the new owner never has the old ones. chown clears
        # bits.
        os.chmod(by_descriptor, 0)
        os.chown(by_descriptor, access.uid, access.gid)
        os.chmod(by_descriptor, access.mode)
    finally:
        os.close(descriptor)


def _other(seen: os.stat_result) -> str:
    if stat.S_ISLNK(seen.st_mode):
        return "a symbolic link"
    if stat.S_ISCHR(seen.st_mode):
        return ""
    if not stat.S_ISREG(seen.st_mode):
        return "neither a file nor a character device"
    return "a file with several names" if seen.st_nlink > 1 else ""


def _is_marked(path: str) -> bool:
    try:
        return os.getxattr(path, MARK, follow_symlinks=False) == b"made"
    except OSError:
        return False
