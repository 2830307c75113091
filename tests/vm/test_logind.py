"""Sessions as a real logind has them, of each class that it knows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.desktop import Desktop
from tests.vm.guest import Guest

# By class, whether somebody has logged in, and whether systemd's user manager is started for that.
CLASSES = {
    "user": (True, True),
    "user-early": (True, True),
    "user-light": (True, False),
    "user-early-light": (True, False),
    "greeter": (False, True),
    "lock-screen": (False, True),
}
# The releases whose systemd does not know a class yet: it is of version 256 or 258.
TOO_OLD = {
    "user-early": ("bookworm",),
    "user-light": ("bookworm", "trixie"),
    "user-early-light": ("bookworm", "trixie"),
}
READ = """
import json
from vfio_hooks.host import Host
from vfio_hooks.host.sessions import graphical, sessions
host = Host()
for one in sessions(host):
    told = dict(Id=one.id, Name=one.user, User=one.uid, Seat=one.seat, Type=one.type,
        Class=one.kind, State=one.state, Remote="yes" if one.remote else "no", Scope=one.scope,
        Display=one.display, Desktop=one.desktop)
    print(json.dumps([{name: str(value) for name, value in told.items()}, one in graphical(host)]))
"""


@pytest.fixture
def desktop(guest: Guest) -> Iterator[Desktop]:
    desktop = Desktop(guest)
    yield desktop
    desktop.stop()


def seen(guest: Guest) -> Iterator[tuple[dict[str, str], bool]]:
    """What we read of each session, and whether somebody looks at a screen there."""
    for line in guest.run("cd /src && python3 -B -", input=READ).stdout.splitlines():
        fields, is_graphical = json.loads(line)
        yield fields, is_graphical


def told(guest: Guest, session: str, names: list[str]) -> dict[str, str]:
    """The same fields as logind tells them."""
    shown = guest.run(f"loginctl show-session {session} -p {','.join(names)}").stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


@pytest.mark.matrix_only
@pytest.mark.parametrize("kind", CLASSES)
def test_each_class_of_session_is_read_as_logind_tells_it(desktop: Desktop, kind: str) -> None:
    guest = desktop.guest
    if guest.release in TOO_OLD.get(kind, ()):
        pytest.skip(f"logind does not know {kind}")
    desktop.log_in(kind)
    is_users, has_manager = CLASSES[kind]
    found = list(seen(guest))
    for fields, _ in found:
        assert {**fields, **told(guest, fields["Id"], list(fields))} == fields
    graphical = {fields["Class"]: on_screen for fields, on_screen in found}
    assert graphical[kind] == is_users
    # systemd 256 and newer have a session for the user manager itself.
    managers = {one for one in graphical if one.startswith("manager")}
    assert not any(graphical[one] for one in managers)
    if guest.release != "bookworm":
        assert bool(managers) == has_manager
