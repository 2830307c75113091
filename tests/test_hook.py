"""The first half of the hook decides as the dispatcher does, for any name and any state."""

import os
from itertools import product
from pathlib import Path

import pytest

from tests.half import SHELLS, Half
from vfio_hooks import dispatch
from vfio_hooks.engine.disk import Disk
from vfio_hooks.engine.journal import Journal
from vfio_hooks.engine.state import StateFolder

pytestmark = pytest.mark.real_processes
OPS = ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect")
ODD_OPS = ("attach", "unheard-of", "", "a/b", "/", "..", ".", "*", "\n", "-d", "UNHEARD-OF")
NAMES = (
    *("win11", "Win11", "a b", " ", "-d", "-n", "!", "(", "=", "--", "~", "#", "%s", ";", "&", "|"),
    *("*", "?", "w*", "[a-z]*", "{a,b}", "$vm", "$(id)", "`id`", "'", '"', "\\", "a\\", "\\n"),
    *("\n", "a\n", "\na", "a\nb", "\t", "\x7f", "\x01", "ü", "\u2028", "\u0085", "\ufeff", "💿"),
    *("x" * 255, "é" * 127, "...", ".hidden", "a..b", "null", "'; exit 1; '", "$'\\n'", "<a>"),
    os.fsdecode(bytes(set(range(1, 128)) - {0x2F})),
    os.fsdecode(bytes(range(128, 256))),
    os.fsdecode(b"\xff"),
)
"""Names of VMs that a folder can have."""
NO_NAMES = ("", ".", "..", "/", "a/b", "win11/", "/win11", "../qemu.d/win11", "x" * 256, "x" * 300)


@pytest.fixture(params=SHELLS)
def half(memory: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Half:
    half = Half(memory, request.param)
    monkeypatch.setattr(dispatch, "HOOKS", str(half.hooks))
    monkeypatch.setattr(dispatch, "STATE", str(half.state))
    return half


def wants(vm: str, op: str) -> bool:
    return dispatch._is_managed(vm, op) or dispatch._has_state(op)


def test_it_decides_as_the_dispatcher(half: Half) -> None:
    """For each name, with a VM's folder that has some operations, and without."""
    for name in NAMES:
        folder = half.manage(name)
        for op in ("reconnect", "unheard-of"):
            (folder / op).mkdir()
        (folder / "restore").touch()
    (half.hooks / "qemu.d/file").touch()
    strangers = [f"{name[:-1]}_" if len(name) == 255 else f"{name}_" for name in NAMES]
    names = [*NAMES, *NO_NAMES, *strangers, "file"]
    cases = [*product(names, OPS), *product(("win11", "a b", "..", "_"), ODD_OPS)]
    wrong = [case for case in cases if half.starts_python(*case) != wants(*case)]
    assert not wrong
    assert {wants(*case) for case in cases} == {True, False}


def test_an_event_of_any_vm_with_a_kept_hook_is_for_python(half: Half) -> None:
    kept = half.hooks / "qemu.kept"
    kept.touch()
    assert not half.starts_python("other", "prepare")
    kept.chmod(0o755)
    assert half.starts_python("other", "prepare")


def test_without_arguments_there_is_nothing_to_do(half: Half) -> None:
    assert half.run().returncode == 0
    assert half.run("win11").returncode == 0


def journal(half: Half, vm: str, number: int = 1) -> Path:
    """The journal of a VM whose event has ended."""
    uuid = f"00000000-0000-0000-0000-{number:012}"
    path = half.state / f"{uuid}.journal"
    written = Journal(str(path), uuid, vm, Disk())
    written.begin("prepare", 1)
    written.end()
    return path


NAMED = [name for name in NAMES if name.isprintable() and len(os.fsencode(name)) < 200]


def test_a_vm_that_runs_is_nothing_to_the_others(half: Half) -> None:
    for number, vm in enumerate(("win11", "a b", "ü", "*", "$(id)", "'")):
        journal(half, vm, number)
        half.start(vm)
    for op, vm in product(OPS, ("other", "win1", "win11_", "b", "")):
        assert not half.starts_python(vm, op)


@pytest.mark.parametrize("op", ["stopped", "release"])
def test_the_end_of_a_vm_with_a_journal_is_for_python(half: Half, op: str) -> None:
    """Its folder is gone; under its name, or under another that it had when it was started."""
    for vm in NAMED:
        path = journal(half, vm)
        assert half.starts_python("renamed", op)
        half.start(vm)
        assert half.starts_python(vm, op), vm
        path.unlink()
        (half.running / f"{vm}.xml").unlink()


def test_a_name_that_two_journals_have_may_be_of_a_vm_that_was_renamed(half: Half) -> None:
    for number in (1, 2):
        journal(half, "win11", number)
    half.start("win11")
    assert half.starts_python("renamed", "release")


def empty(path: Path) -> None:
    path.write_text("")


def tear(path: Path) -> None:
    path.write_text(path.read_text().partition("\n")[0])


def garble(path: Path) -> None:
    path.write_text("{}\n")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("damage", [empty, tear, garble, replace_by_folder, replace_by_pipe])
def test_a_journal_that_does_not_name_a_vm_is_for_python(half: Half, damage: object) -> None:
    assert callable(damage)
    damage(journal(half, "win11"))
    half.start("win11")
    assert half.starts_python("other", "release")
    assert not half.starts_python("other", "prepare")


def test_an_event_that_was_cut_off_is_for_the_end_of_any_vm(half: Half) -> None:
    folder = StateFolder(str(half.state))
    with folder.locked(lambda: None):
        assert not half.starts_python("other", "release")
        folder.unsettle()
    assert half.starts_python("other", "release")
    assert not half.starts_python("other", "prepare")
    with folder.locked(lambda: None):
        folder.settle()
    assert not half.starts_python("other", "release")


def test_without_python_only_managed_vms_do_not_start(half: Half) -> None:
    half.manage("win11")
    half.remove_python()
    for vm, op in product(("win11", "other"), OPS):
        done = half.run(vm, op)
        fails = vm == "win11" and op in ("prepare", "start")
        assert done.returncode == fails
        assert (b"usr/bin/python3 is not there" in done.stderr) == fails
        assert done.stderr.count(b"\n") == fails
    kept = half.hooks / "qemu.kept"
    kept.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    kept.chmod(0o755)
    assert half.run("other", "restore", "begin", "a b").stdout == b"other restore begin a b\n"
    assert half.run("win11", "prepare").returncode == 1


def test_what_an_idle_event_costs(half: Half, tmp_path: Path) -> None:
    """One process, and of files no more than the hook itself and what a shell is made of."""
    trace = tmp_path / "trace"
    for number in range(9):
        journal(half, f"vm{number}", number)
        half.start(f"vm{number}")
    for op, reads in (("prepare", 0), ("started", 0), ("release", 9)):
        calls = "trace=%process,open,openat"
        half.run("other", op, under=("strace", "-f", "-e", calls, "-o", str(trace)))
        lines = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
        assert [line for line in lines if line.startswith("execve")] == lines[:1]
        assert not [line for line in lines if line.startswith(("fork", "vfork", "clone"))]
        opened = [line for line in lines if line.startswith("open") and " = -1 " not in line]
        assert sum(str(half.state) in line and ".journal" in line for line in opened) == reads
        assert len([line for line in opened if "/lib/" not in line]) <= reads + 6
