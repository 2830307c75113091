"""Whether a file that root is about to use can only have been written by root."""

from __future__ import annotations

import os
import stat

from vfio_hooks.errors import HookError, unreadable
from vfio_hooks.quoting import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_LINKS = 40
"""As many symbolic links as the kernel follows in one path."""


def trusted(path: str, folder: str) -> None:
    """Raise HookError if somebody other than root could have made or changed `path`.

    This checks `folder`, everything from there down to `path`, and everything on the way to the
    target of a symbolic link. Links are allowed, and so are files of the calling user.
    """
    inside = os.path.realpath(folder)
    link = ""
    for name in _way(path, folder):
        try:
            seen = os.lstat(name)
        except OSError as error:
            raise unreadable(name, error) from None
        is_inside = name == inside or name.startswith(f"{inside}/")
        link = name if is_inside and stat.S_ISLNK(seen.st_mode) else link
        if seen.st_uid not in (0, os.geteuid()):
            raise HookError(
                f"{name}: belongs to user {seen.st_uid}, not to root",
                _mending("chown root:", name) if is_inside else _copying(link),
            )
        # In a sticky folder (/tmp, /nix/store) nobody can replace what belongs to root.
        sticky = stat.S_ISDIR(seen.st_mode) and seen.st_mode & stat.S_ISVTX
        if seen.st_mode & 0o022 and not stat.S_ISLNK(seen.st_mode) and not sticky:
            raise HookError(
                f"{name}: users other than its owner may write to it",
                _mending("chmod go-w", name) if is_inside else _copying(link),
            )


def _mending(command: str, name: str) -> str:
    return f"look at what is in it, then: {command} {quoted(name)}"


def _copying(link: str) -> str:
    """A hint to copy the target of a link. A file outside of the hooks' folder may be in somebody's
    home, and has to stay theirs."""
    place = quoted(link)
    return (
        "look at what is in it, then replace the link by a copy that belongs to root: "
        f"cp -rL {place} {place}.new; rm {place}; mv {place}.new {place}"
    )


def _way(path: str, folder: str) -> Iterator[str]:
    """Everything that the kernel passes on its way from `folder` to `path`, including links."""
    here = os.path.realpath(folder)
    yield here
    parts = os.path.relpath(path, folder).split("/")
    links = 0
    while parts:
        part = parts.pop(0)
        if part in ("", "."):
            continue
        here = os.path.dirname(here) if part == ".." else os.path.join(here, part)
        yield here
        if os.path.islink(here):
            links += 1
            if links > _LINKS:
                raise HookError(f"{path}: too many symbolic links")
            goal = os.readlink(here)
            here = "/" if goal.startswith("/") else os.path.dirname(here)
            parts = goal.split("/") + parts
