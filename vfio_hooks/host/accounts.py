"""User accounts of the host, and what they may execute."""

from __future__ import annotations

import grp
import os
import pwd
import stat

from vfio_hooks.errors import HookError, nearest
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

_ACL = "system.posix_acl_access"


@record
class Account:
    """A user, with all of the user's groups."""

    name: str
    uid: int
    home: str
    groups: frozenset[int]


def account(host: Host, name: str) -> Account:
    """The account with that name. On this machine it comes from wherever users are kept (NSS), for
    a captured host from its etc/passwd and etc/group. Raises HookError if there is none."""
    if host.is_this_machine:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            raise _nobody(name, [one.pw_name for one in pwd.getpwall()]) from None
        groups = os.getgrouplist(name, found.pw_gid)
        return Account(name, found.pw_uid, found.pw_dir, frozenset(groups))
    users = {line[0]: line for line in _table(host, "/etc/passwd", 7)}
    if name not in users:
        raise _nobody(name, list(users))
    _, _, uid, gid, _, home, _ = users[name]
    member = (line[2] for line in _table(host, "/etc/group", 4) if name in line[3].split(","))
    return Account(name, int(uid), home, frozenset(map(int, (gid, *member))))


def user_names(host: Host) -> list[str]:
    """The names of all users."""
    if host.is_this_machine:
        return [one.pw_name for one in pwd.getpwall()]
    return [line[0] for line in _table(host, "/etc/passwd", 7)]


def user_name(host: Host, uid: int) -> str | None:
    """The name of the user with that number, or None."""
    if host.is_this_machine:
        try:
            return pwd.getpwuid(uid).pw_name
        except KeyError:
            return None
    return next((line[0] for line in _table(host, "/etc/passwd", 7) if line[2] == str(uid)), None)


def primary_group(host: Host, user: str) -> int:
    """The number of the group that a user's own processes have. Raises HookError as `account`."""
    account(host, user)
    if host.is_this_machine:
        return pwd.getpwnam(user).pw_gid
    return next(int(line[3]) for line in _table(host, "/etc/passwd", 7) if line[0] == user)


def group_id(host: Host, name: str) -> int:
    """The number of the group of that name. Raises HookError if there is none."""
    if host.is_this_machine:
        groups = {one.gr_name: one.gr_gid for one in grp.getgrall()}
    else:
        groups = {line[0]: int(line[2]) for line in _table(host, "/etc/group", 4)}
    if name not in groups:
        raise HookError(
            f"there is no group {name!r} on this host",
            nearest(name, groups, "getent group lists all groups"),
        )
    return groups[name]


def obstacle(host: Host, user: Account, path: str) -> str:
    """Why a user cannot execute a file: "there is no such file"; "" if nothing seems to prevent it.
    On a captured host the owners of files are lost, so only the file's own bits are checked."""
    parts = path.split("/")
    way = ["/".join(parts[:count]) or "/" for count in range(1, len(parts))] + [path]
    for name in way:
        try:
            seen = os.stat(host.path(name))
        except (FileNotFoundError, NotADirectoryError):
            return "there is no such file"
        except OSError:
            return ""  # Root may not look inside, as with a home on a network.
        if name == path and not stat.S_ISREG(seen.st_mode):
            return "it is not a file"
        if host.is_this_machine and not _allows(host.path(name), seen, user):
            what = "execute it" if name == path else f"enter {name}"
            return f"{user.name} may not {what}"
        if name == path and not seen.st_mode & 0o111:
            return "it is not executable"
    return ""


def _allows(path: str, seen: os.stat_result, user: Account) -> bool:
    """Whether the execute bit that counts for a user is set."""
    if user.uid == 0:
        return bool(stat.S_ISDIR(seen.st_mode) or seen.st_mode & 0o111)
    if seen.st_uid == user.uid:
        return bool(seen.st_mode & 0o100)
    try:
        if os.getxattr(path, _ACL):
            return True  # An access list may allow more than the bits; the kernel decides.
    except OSError:
        pass
    return bool(seen.st_mode & (0o010 if seen.st_gid in user.groups else 0o001))


def _table(host: Host, path: str, columns: int) -> list[list[str]]:
    lines = (line.split(":") for line in host.lines(path))
    return [line for line in lines if len(line) == columns]


def _nobody(name: str, there: list[str]) -> HookError:
    return HookError(
        f"there is no user {name!r} on this host",
        nearest(name, there, "getent passwd lists all users"),
    )
