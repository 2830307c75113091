"""The users' graphical sessions as logind knows them, and how to run a command inside of one.

logind keeps a file of NAME=value lines for each session. libsystemd reads it to answer
sd_session_get_type(3) and the like. So do we, because this needs no bus and also works for a
captured host. What logind does not know is in the environment of a session's programs, in /proc.
"""

from __future__ import annotations

import os
import pwd
import re

from vfio_hooks import commands
from vfio_hooks.errors import HookError
from vfio_hooks.host import process
from vfio_hooks.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

FOLDER = "/run/systemd/sessions"
# Of sd_session_get_class(3), with those of systemd 262. "user-incomplete" has not logged in yet.
_USERS = ("user", "user-early", "user-light", "user-early-light")
GRAPHICAL = ("x11", "wayland", "mir")
VARIABLES = (
    "DISPLAY",
    "XAUTHORITY",
    "WAYLAND_DISPLAY",
    "XDG_CURRENT_DESKTOP",
    "XDG_SESSION_ID",
    "DBUS_SESSION_BUS_ADDRESS",
)
"""The variables that are taken from the environment of a session's programs."""


@record
class Session:
    """One session. `type` is x11, wayland, mir, tty or unspecified; `kind` is logind's class:
    user, user-light, greeter, manager, lock-screen; `state` is active, online (in the background)
    or closing. A locked session counts like any other: its display server still accepts
    commands."""

    id: str
    user: str
    uid: int
    seat: str = ""
    type: str = "unspecified"
    kind: str = "user"
    state: str = "online"
    remote: bool = False
    scope: str = ""
    display: str = ""
    """The X display that logind knows, ":0"; often none."""
    desktop: str = ""
    """What the display manager called the desktop, "gnome"; often none."""

    @property
    def is_users(self) -> bool:
        """Whether a person has logged in here. A login screen or a user manager does not count."""
        return self.kind in _USERS and self.state != "closing" and not self.remote

    def __str__(self) -> str:
        where = f" on {self.seat}" if self.seat else ""
        return f"session {self.id} of {self.user}{where} ({self.type}, {self.state})"


def sessions(host: Host) -> list[Session]:
    """Every session, in the order of their ids."""
    found = []
    for name in host.names(FOLDER):
        # Next to each session's file is a FIFO, name.ref, and a read of that would wait forever.
        if not name.endswith(".ref") and (text := host.maybe(f"{FOLDER}/{name}")):
            found += _parse(name, text)
    return sorted(found, key=lambda one: (len(one.id), one.id))


def graphical(host: Host) -> list[Session]:
    """The graphical sessions of people, each with its real type: the login screen tells logind
    about an X server or compositor, but somebody who types startx does not."""
    found = []
    for session in filter(lambda one: one.is_users, sessions(host)):
        if session.type == "tty":
            session = replace(session, type=_type_of_programs(host, session))
        if session.type in GRAPHICAL:
            found.append(session)
    return found


def choose(host: Host, user: str | None = None, seat: str | None = None) -> Session:
    """The one graphical session that is meant: of this user, on this seat and, if there are still
    several, on the screen. Raises HookError if this is not exactly one."""
    there = graphical(host)
    fitting = [s for s in there if user in (None, s.user) and seat in (None, s.seat)]
    active = [s for s in fitting if s.state == "active"]
    for chosen in (fitting, active):
        if len(chosen) == 1:
            return chosen[0]
    if fitting:
        raise HookError(
            f"there are {len(fitting)} graphical sessions: {', '.join(map(str, fitting))}",
            "choose one with user or seat",
        )
    raise _nobody(host, there, user, seat)


def environment(host: Host, session: Session) -> dict[str, str]:
    """The variables that a program needs to be part of a session: DISPLAY, XAUTHORITY,
    WAYLAND_DISPLAY, XDG_RUNTIME_DIR, DBUS_SESSION_BUS_ADDRESS and the like, as far as they
    exist."""
    runtime = f"/run/user/{session.uid}"
    found = _of_programs(host, session)
    if session.display:
        found.setdefault("DISPLAY", session.display)
    if session.type == "x11" and (socket := _first(host, "/tmp/.X11-unix", r"X\d+")):
        found.setdefault("DISPLAY", f":{socket[1:]}")
    if session.type == "wayland" and (socket := _first(host, runtime, r"wayland-\d+")):
        found.setdefault("WAYLAND_DISPLAY", socket)
    if host.exists(runtime):
        found["XDG_RUNTIME_DIR"] = runtime
    if host.exists(f"{runtime}/bus"):
        found.setdefault("DBUS_SESSION_BUS_ADDRESS", f"unix:path={runtime}/bus")
    if session.desktop:
        found.setdefault("XDG_CURRENT_DESKTOP", session.desktop)
    return {**found, "XDG_SESSION_ID": session.id, "XDG_SESSION_TYPE": session.type}


def as_user(user: str, variables: dict[str, str], argv: list[str]) -> list[str]:
    """The command that runs `argv` as a user, with that user's groups and none of our privileges,
    in a fresh environment with these variables. setpriv(1). Raises HookError.

    Both programs are in /usr/bin: a hook that AppArmor confines may run no others.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise HookError(f"there is no user {user!r} on this host") from None
    settings = [
        f"{name}={value}" for name, value in sorted({"PATH": commands.SEARCH, **variables}.items())
    ]
    if os.geteuid() == account.pw_uid:
        return ["env", *settings, *argv]
    drop = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"]
    return ["setpriv", *drop, "--reset-env", "--", "env", *settings, *argv]


def _parse(name: str, text: str) -> list[Session]:
    fields = dict(line.split("=", 1) for line in text.split("\n") if "=" in line)
    try:
        session = Session(
            id=name,
            user=fields.get("USER", fields["UID"]),
            uid=int(fields["UID"]),
            seat=fields.get("SEAT", ""),
            type=fields.get("TYPE", "unspecified"),
            kind=fields.get("CLASS", "user"),
            state=fields.get("STATE", "online"),
            remote=fields.get("REMOTE") == "1",
            scope=fields.get("SCOPE", ""),
            display=fields.get("DISPLAY", ""),
            desktop=fields.get("DESKTOP", ""),
        )
    except (KeyError, ValueError):
        return []
    return [session]


def _nobody(host: Host, there: list[Session], user: str | None, seat: str | None) -> HookError:
    whose = f"{user} has" if user else "nobody has"
    problem = f"{whose} {'no' if user else 'a'} graphical session{f' on {seat}' if seat else ''}"
    if there:
        return HookError(problem, f"there is: {', '.join(map(str, there))}")
    greeters = [s for s in sessions(host) if s.kind == "greeter"]
    hint = "log in first; or set required = false, and the VM starts without this"
    if greeters:
        problem += f", there is only the login screen ({greeters[0]})"
    elif not host.exists(FOLDER):
        problem += f": logind does not run on this host ({FOLDER} does not exist)"
        hint = "leave out the table; or set required = false, and the VM starts without this"
    return HookError(problem, hint)


def _first(host: Host, folder: str, pattern: str) -> str | None:
    return next((name for name in host.names(folder) if re.fullmatch(pattern, name)), None)


def _of_programs(host: Host, session: Session) -> dict[str, str]:
    """The variables of the first program that knows the session's display."""
    needed = {"x11": "DISPLAY", "wayland": "WAYLAND_DISPLAY"}.get(session.type, "DISPLAY")
    for pid in programs(host, session):
        found = _variables(host, pid)
        if needed in found and found.get("XDG_SESSION_ID", session.id) == session.id:
            return found
    return {}


def _type_of_programs(host: Host, session: Session) -> str:
    for pid in programs(host, session):
        found = _variables(host, pid)
        if "WAYLAND_DISPLAY" in found:
            return "wayland"
        # "localhost:10.0" is a display that ssh forwards.
        if found.get("DISPLAY", "").startswith(":"):
            return "x11"
    return session.type


def programs(host: Host, session: Session) -> Iterator[str]:
    """The pids of the user's processes: first those of the session, then those that the user's
    manager runs, which has all programs of a desktop that is started as systemd units."""
    scopes: list[str] = []
    managers: list[str] = []
    for pid in sorted(filter(str.isdecimal, host.names("/proc")), key=int):
        group = host.maybe(f"/proc/{pid}/cgroup") or ""
        if session.scope and f"/{session.scope}" in group:
            scopes.append(pid)
        elif f"/user@{session.uid}.service/" in group:
            managers.append(pid)
    for pid in (*scopes, *managers):
        if process.uid(host, pid) == session.uid:
            yield pid


def _variables(host: Host, pid: str) -> dict[str, str]:
    known = process.environ(host, pid)
    return {name: known[name] for name in VARIABLES if known.get(name)}
