"""Which graphical session is meant, and what a program needs to be part of it."""

import getpass
import os
import subprocess
from pathlib import Path

import pytest

from tests.fakes.logind import add_program, add_session
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.sessions import as_user, choose, environment, graphical, sessions

pytestmark = pytest.mark.real_processes


def test_a_session_is_read_from_loginds_file(tmp_path: Path) -> None:
    add_session(tmp_path, "2", DISPLAY=":0", DESKTOP="xfce")
    os.mkfifo(tmp_path / "run/systemd/sessions/2.ref")
    (tmp_path / "run/systemd/sessions/7").write_text("nonsense\n")
    (session,) = sessions(Host(str(tmp_path)))
    assert (session.user, session.uid, session.seat) == ("ada", 1000, "seat0")
    assert (session.type, session.display) == ("x11", ":0")
    assert str(session) == "session 2 of ada on seat0 (x11, active)"


GREETER = {"CLASS": "greeter", "user": "gdm", "uid": "120"}
SSH = {"TYPE": "tty", "REMOTE": "1", "SEAT": ""}
BACKGROUND = {"STATE": "online", "user": "bob", "uid": "1001"}


@pytest.mark.parametrize(
    ("there", "wish", "expected"),
    [
        ({"2": {}}, {}, "2"),
        ({"c1": GREETER, "2": {}}, {}, "2"),
        ({"2": {}, "5": SSH}, {}, "2"),
        ({"2": {}, "3": BACKGROUND}, {}, "2"),
        ({"2": {}, "3": BACKGROUND}, {"user": "bob"}, "3"),
        ({"2": {}, "3": {"user": "bob", "SEAT": "seat1"}}, {"seat": "seat1"}, "3"),
        ({"2": {"STATE": "closing"}, "3": {}}, {}, "3"),
    ],
)
def test_the_session_that_is_meant(
    tmp_path: Path, there: dict[str, dict[str, str]], wish: dict[str, str], expected: str
) -> None:
    for name, fields in there.items():
        add_session(tmp_path, name, **fields)
    assert choose(Host(str(tmp_path)), **wish).id == expected


@pytest.mark.parametrize(
    ("there", "wish", "words"),
    [
        ({}, {}, "nobody has a graphical session: logind does not run on this host"),
        ({"5": SSH}, {}, "nobody has a graphical session; log in first"),
        ({"c1": GREETER}, {}, "is only the login screen (session c1 of gdm on seat0"),
        ({"2": {}}, {"user": "bob"}, "bob has no graphical session; there is: session 2 of ada"),
        ({"2": {}}, {"seat": "seat1"}, "nobody has a graphical session on seat1; there is: "),
        ({"2": {}, "3": {"SEAT": "seat1"}}, {}, "there are 2 graphical sessions: session 2 of ada"),
    ],
)
def test_not_just_one_session_is_told(
    tmp_path: Path, there: dict[str, dict[str, str]], wish: dict[str, str], words: str
) -> None:
    for name, fields in there.items():
        add_session(tmp_path, name, **fields)
    with pytest.raises(HookError) as caught:
        choose(Host(str(tmp_path)), **wish)
    assert words in str(caught.value)


# As systemd 262 writes it: a pidfd's number beside the pid, and no FIFO and no file.ref.
OF_262 = """\
# This is private data. Do not parse.
UID=1000
ACTIVE=1
IS_DISPLAY=1
STATE=active
REMOTE=0
LEADER_FD_SAVED=1
USER=ada
TYPE=wayland
ORIGINAL_TYPE=wayland
CLASS={kind}
SCOPE=session-2.scope
SEAT=seat0
SERVICE=login
DESKTOP=KDE
POSITION=1
LEADER=700
LEADER_PIDFDID=4711
REALTIME=1795269437838503
MONOTONIC=59221
"""


@pytest.mark.parametrize(
    ("kind", "is_users"),
    [
        ("user", True),
        ("user-early", True),
        ("user-light", True),
        ("user-early-light", True),
        # It still asks for the password.
        ("user-incomplete", False),
        ("greeter", False),
        ("lock-screen", False),
        ("background", False),
        ("background-light", False),
        ("manager", False),
        ("manager-early", False),
    ],
)
def test_the_classes_of_sessions_of_systemd_262(tmp_path: Path, kind: str, is_users: bool) -> None:
    folder = tmp_path / "run/systemd/sessions"
    folder.mkdir(parents=True)
    (folder / "2").write_text(OF_262.format(kind=kind))
    # Each user with a session also has one of the user's manager.
    (folder / "1").write_text(OF_262.format(kind="manager").replace("session-2.scope", ""))
    host = Host(str(tmp_path))
    assert [one.kind for one in sessions(host)] == ["manager", kind]
    assert [one.id for one in graphical(host)] == (["2"] if is_users else [])


def test_startx_is_an_x11_session_and_a_shell_is_none(tmp_path: Path) -> None:
    add_session(tmp_path, "2", TYPE="tty")
    add_session(tmp_path, "3", TYPE="tty")
    add_program(tmp_path, 701, "session-2.scope", DISPLAY=":1", HOME="/home/ada")
    add_program(tmp_path, 702, "session-3.scope", DISPLAY="localhost:10.0")
    host = Host(str(tmp_path))
    assert [(one.id, one.type) for one in graphical(host)] == [("2", "x11")]


def test_the_environment_is_that_of_the_sessions_programs(tmp_path: Path) -> None:
    add_session(tmp_path, "2", DISPLAY=":9")
    unit = "user@1000.service/app.slice/xterm.service"
    add_program(tmp_path, 650, unit, DISPLAY=":3", XAUTHORITY="/of/3", XDG_SESSION_ID="1")
    add_program(tmp_path, 660, uid=0, DISPLAY=":4", XAUTHORITY="/of/root")
    add_program(tmp_path, 700, HOME="/home/ada")
    add_program(tmp_path, 710, unit, DISPLAY=":0", XAUTHORITY="/run/user/1000/x", PATH="/evil")
    (tmp_path / "run/user/1000/bus").touch()
    host = Host(str(tmp_path))
    assert environment(host, choose(host)) == {
        "DISPLAY": ":0",
        "XAUTHORITY": "/run/user/1000/x",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus",
        "XDG_RUNTIME_DIR": "/run/user/1000",
        "XDG_SESSION_ID": "2",
        "XDG_SESSION_TYPE": "x11",
    }


@pytest.mark.parametrize(
    ("fields", "file", "variable"),
    [
        ({"DISPLAY": ":9"}, "tmp/.X11-unix/X3", ("DISPLAY", ":9")),
        ({}, "tmp/.X11-unix/X3", ("DISPLAY", ":3")),
        ({"TYPE": "wayland"}, "run/user/1000/wayland-1", ("WAYLAND_DISPLAY", "wayland-1")),
    ],
)
def test_without_programs_the_sockets_tell(
    tmp_path: Path, fields: dict[str, str], file: str, variable: tuple[str, str]
) -> None:
    add_session(tmp_path, "2", **fields)
    for name in (file, f"{file}.lock"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    host = Host(str(tmp_path))
    assert variable in environment(host, choose(host)).items()


def test_a_command_runs_as_the_user_with_nothing_of_ours() -> None:
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    line = as_user("nobody", {"DISPLAY": ":0 ; id"}, ["sh", "-c", 'id -un; echo "$DISPLAY$LEAK"'])
    done = subprocess.run(line, capture_output=True, text=True, env={"LEAK": "x", **os.environ})
    assert done.stdout == "nobody\n:0 ; id\n", done.stderr
    with pytest.raises(HookError, match="there is no user 'nobody here'"):
        as_user("nobody here", {}, ["true"])
    assert getpass.getuser() == "root"
