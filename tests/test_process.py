"""The process plugin: what it runs, as whom, and what it refuses before anything is changed."""

import os
from pathlib import Path
from typing import Any

import pytest

from vfio_hooks.config import examine
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.accounts import Account, account, obstacle
from vfio_hooks.knobs.transient import Transient
from vfio_hooks.plugins.process import Options, plan
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
VM = Domain("win 11", "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11")
LIFE = f"vfio-hooks-life-{VM.uuid}.service"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:Me:/home/me:/bin/bash\n"
SESSION = (
    "UID=1000\nUSER=me\nSTATE=active\nCLASS=user\nTYPE=x11\nSEAT=seat0\nDISPLAY=:0\nREMOTE=0\n"
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A captured host with a user who has a session, and Barrier."""
    for name, text in (
        ("etc/passwd", PASSWD),
        ("etc/group", "input:x:104:you,me\n"),
        ("run/systemd/sessions/2", SESSION),
        ("usr/bin/barrier", "#!/bin/sh\n"),
        ("home/me/.local/bin/mine", "#!/bin/sh\n"),
        ("usr/bin/plain", ""),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o644 if name.endswith("plain") else 0o755)
    (tmp_path / "run/user/1000").mkdir(parents=True)
    return Host(str(tmp_path))


def planned(host: Host, op: str = "started", **options: Any) -> list[Step]:
    return list(plan(Event(VM.name, op), VM, Options(**options), host))


def helper(host: Host, op: str = "started", **options: Any) -> Transient:
    life, step = planned(host, op, **options)
    assert isinstance(life.knob, Transient) and life.knob.unit == LIFE
    assert isinstance(step.knob, Transient)
    return step.knob


def test_a_program_of_the_session(host: Host) -> None:
    knob = helper(host, command=["barrier", "--config", "x"], user="me")
    assert knob.unit == "vfio-hooks-win\\x2011-barrier.service"
    assert knob.command == ("/usr/bin/barrier", "--config", "x")
    assert {"User=me", "WorkingDirectory=/home/me", "Restart=no"} <= set(knob.properties)
    assert {f"BindsTo={LIFE}", f"After={LIFE}"} <= set(knob.properties)
    variables = dict(pair.split("=", 1) for pair in knob.environment)
    assert variables["DISPLAY"] == ":0"
    assert variables["XDG_RUNTIME_DIR"] == "/run/user/1000"
    assert variables["VFIO_HOOKS_VM"] == "win 11"


def test_the_one_who_has_the_session_is_the_default(host: Host) -> None:
    assert "User=me" in helper(host, command="mine").properties
    assert helper(host, command="mine").command == ("/home/me/.local/bin/mine",)
    os.remove(host.path("/run/systemd/sessions/2"))
    with pytest.raises(HookError, match="nobody has a graphical session"):
        planned(host, "prepare", command="barrier")


def test_root_has_no_session(host: Host) -> None:
    knob = helper(host, command="barrier", user="root", environment={"A": "b c"})
    assert knob.environment == ("VFIO_HOOKS_VM=win 11", "A=b c")


def test_when(host: Host) -> None:
    """At prepare everything is checked, also what is started later. What fails at started does
    not take the rest of that event with it."""
    assert planned(host, "prepare", command="barrier") == []
    assert all(not step.required for step in planned(host, command="barrier"))
    early = planned(host, "prepare", command="barrier", when="prepare")
    assert all(step.required and step.until == "stopped" for step in early)
    assert planned(host, "started", command="barrier", when="prepare") == []
    assert planned(host, "start", command="barrier") == []


def test_a_string_is_split_and_nothing_else(host: Host) -> None:
    knob = helper(host, command="barrier --name 'a b' $HOME *")
    assert knob.command[1:] == ("--name", "a b", "$HOME", "*")


def test_the_unit_of_a_vm_with_a_long_name(host: Host) -> None:
    vm = Domain("ü" * 80, VM.uuid)
    _, step = plan(Event(vm.name, "started"), vm, Options("barrier"), host)
    assert step.key.startswith("vfio-hooks-6b7b8a1e")


def test_two_programs_need_two_names(tmp_path: Path) -> None:
    folder = tmp_path / "qemu.d/vm"
    folder.mkdir(parents=True)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    tables = '[[process]]\ncommand = "/bin/sh a"\n[[process]]\ncommand = "sh b"\n'
    (folder / "vm.toml").write_text(tables)
    _, (problem,) = examine(str(tmp_path), "vm")
    assert "there are two [[process]] tables for sh; give one of them another name" in str(problem)
    (folder / "vm.toml").write_text(tables + 'name = "b"\n')
    assert examine(str(tmp_path), "vm")[1] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"command": "barier"}, "barier: no such program"),
        ({"command": "/usr/bin/barier"}, "/usr/bin/barier: there is no such file"),
        ({"command": "/usr/bin/plain"}, "/usr/bin/plain: it is not executable"),
        ({"command": "plain"}, "/usr/bin/plain: it is not executable"),
        ({"command": "/usr/bin"}, "/usr/bin: it is not a file"),
        ({"command": "./barrier"}, "not an absolute path"),
        (
            {"command": "barrier", "user": "mee"},
            "no user 'mee' on this host; did you mean me? getent passwd lists all users",
        ),
        ({"command": "barrier", "folder": "/nowhere"}, "/nowhere: no such folder"),
    ],
)
def test_what_cannot_work_is_told_at_prepare(
    host: Host, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(HookError) as caught:
        planned(host, "prepare", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"command": ""},
        {"command": ()},
        {"command": "a 'b"},
        {"command": "a", "environment": {"A=B": "c"}},
        {"command": "a", "name": ""},
        {"command": "a", "folder": "~/x"},
        {"command": "a", "timeout": 0},
    ],
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Options(**options)


@pytest.mark.parametrize(
    ("mode", "folder_mode", "user", "reason"),
    [
        (0o755, 0o755, (1000, ()), ""),
        (0o700, 0o755, (1000, ()), "may not execute it"),
        (0o754, 0o755, (1000, ()), "may not execute it"),
        (0o750, 0o755, (1000, (0,)), ""),
        (0o700, 0o755, (0, ()), ""),
        (0o644, 0o755, (0, ()), "may not execute it"),
        (0o755, 0o750, (1000, ()), "may not enter"),
        (0o755, 0o750, (1000, (0,)), ""),
        (0o755, 0o700, (0, ()), ""),
    ],
)
def test_who_may_execute(
    mode: int, folder_mode: int, user: tuple[int, tuple[int, ...]], reason: str
) -> None:
    """On this machine, where owners and groups count, by what execve(2) really says."""
    if os.geteuid():
        pytest.skip("only root can become somebody else")
    folder = Path("/run") / f"vfio-hooks-test-{os.getpid()}"
    program = folder / "program"
    who = Account("me", user[0], "/", frozenset(user[1]))
    try:
        folder.mkdir()
        program.write_text("#!/bin/sh\n")
        program.chmod(mode)
        folder.chmod(folder_mode)
        told = obstacle(Host(), who, str(program))
        assert reason in told and bool(reason) == bool(told)
        assert _can_execute(who, program) is not bool(reason)
    finally:
        program.unlink(missing_ok=True)
        folder.rmdir()


def _can_execute(who: Account, program: Path) -> bool:
    child = os.fork()
    if not child:
        try:
            os.setgroups(list(who.groups))
            os.setgid(65534)
            os.setuid(who.uid)
            os.execv(program, [str(program)])
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def test_accounts_of_this_machine() -> None:
    assert account(Host(), "root").home == "/root"
    with pytest.raises(HookError, match="did you mean root"):
        account(Host(), "rooot")
