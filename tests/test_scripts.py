"""A VM's executables: which are run, in what order, with what, and how their failures are told."""

import os
import socket
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.kernel import Lines
from tests.processes import has_ended
from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.event import Event
from vfio_hooks.hook import scripts
from vfio_hooks.hook.scripts import find, run, run_all
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
EVENT = Event("win11", "prepare", "begin", "-")
LONG = 60.0
"""Seconds that nothing here takes."""


@pytest.fixture
def folder(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A VM's folder, on a host without systemd's journal."""
    monkeypatch.setattr(scripts, "STREAM", str(memory / "stream"))
    own = memory / "hooks/qemu.d/win11"
    own.mkdir(parents=True)
    return own


def write(path: Path, text: str = "", mode: int = 0o755) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path


def test_a_folder_s_files_are_run_in_the_order_of_their_names(folder: Path) -> None:
    place = folder / "prepare/begin"
    for name in ("b", "10", "9", "B", "é", ".hidden", "b~"):
        write(place / name)
    write(place / "no-program", mode=0o644)
    (place / "deeper").mkdir()
    names = [path.removeprefix(f"{place}/") for path in find(str(folder), EVENT)]
    assert names == ["10", "9", "B", "b", "é"]


def test_a_file_in_place_of_the_folder_is_run(folder: Path) -> None:
    assert find(str(folder), EVENT) == []
    path = write(folder / "prepare/begin")
    assert find(str(folder), EVENT) == [str(path)]


def test_what_others_may_have_written_is_not_run(folder: Path) -> None:
    path = write(folder / "prepare/begin", mode=0o775)
    with pytest.raises(HookError, match=f"^{path}: users other than its owner may write to it;"):
        find(str(folder), EVENT)


def test_a_link_to_nowhere_is_missed(folder: Path) -> None:
    (folder / "prepare").mkdir()
    link = folder / "prepare/begin"
    link.symlink_to("/no/such/script")
    with pytest.raises(HookError) as failure:
        find(str(folder), EVENT)
    assert failure.value.problem == f"{link}: it is a link to /no/such/script, which does not exist"
    (problem,) = run_all(str(folder), EVENT, b"", LONG, Lines())
    assert problem.problem == failure.value.problem


def test_it_gets_what_libvirt_gave(folder: Path) -> None:
    out = folder / "out"
    path = write(folder / "one", f'echo "$@" "$(cat)" "$PWD" "$HOME" >{out}; echo no; echo no >&2')
    log = Lines()
    run([str(path)], EVENT, b"<domain/>", LONG, log)
    assert (
        out.read_text() == f"win11 prepare begin - <domain/> {os.getcwd()} {os.environ['HOME']}\n"
    )
    assert log.infos == [f"win11: running {path}"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("exit 3", "exit code 3"),
        ("echo one >&2; echo two >&2; echo >&2; exit 1", "exit code 1: two"),
        (r"printf '\033[31mred\033[0m\a!\r' >&2; exit 1", "exit code 1: red !"),
        ("echo no >&2; kill -KILL $$", "killed by SIGKILL: no"),
        ("printf '%0300d' 0 >&2; exit 1", f"exit code 1: {'0' * 200}"),
        (r"printf '\377x' >&2; exit 1", "exit code 1: \ufffdx"),
    ],
)
def test_how_one_that_fails_is_told(folder: Path, text: str, told: str) -> None:
    path = write(folder / "one", text)
    with pytest.raises(HookError) as failure:
        run(
            [str(path), str(write(folder / "two", f"touch {folder}/ran"))],
            EVENT,
            b"",
            LONG,
            Lines(),
        )
    assert (failure.value.problem, failure.value.hint) == (f"{path}: {told}", "")
    assert not (folder / "ran").exists()


def test_the_log_is_named_where_there_is_one(folder: Path) -> None:
    (Path(scripts.STREAM)).touch()
    path = write(folder / "one", "exit 3")
    with pytest.raises(HookError) as failure:
        run([str(path)], EVENT, b"", LONG, Lines())
    assert failure.value.hint == "journalctl -t vfio-hooks has what it printed"


@pytest.mark.parametrize(
    ("first", "told"),
    [
        ("#!/no/such/shell", "exit code 127: its first line names the interpreter /no/such/shell"),
        ("#!/bin/sh\r\nexit 1\r", "its lines end in CR and LF, as on Windows"),
    ],
)
def test_one_that_cannot_be_run_says_why(folder: Path, first: str, told: str) -> None:
    path = write(folder / "one")
    path.write_text(f"{first}\n")
    with pytest.raises(HookError) as failure:
        run([str(path)], EVENT, b"", LONG, Lines())
    assert failure.value.problem.startswith(f"{path}: exit code ")
    assert told in failure.value.problem
    assert failure.value.hint


def test_one_that_cannot_be_started(folder: Path) -> None:
    path = write(folder / "one")
    with pytest.raises(HookError) as failure:
        run([str(path)], Event("win11", "prepare", "begin", "x" * (1 << 20)), b"", LONG, Lines())
    assert failure.value.problem == f"{path}: cannot be run: Argument list too long"


def test_one_that_takes_too_long_is_killed_with_all_that_it_started(folder: Path) -> None:
    pids = folder / "pids"
    path = write(folder / "one", f"sleep {LONG} & echo $! $$ >{pids}; wait")
    with pytest.raises(HookError) as failure:
        run([str(path)], EVENT, b"", 0.3, Lines())
    assert failure.value.problem == f"{path}: not finished after 0.3 s, so it was killed"
    assert failure.value.hint == "script_timeout in vm.toml sets how long it may take"
    # On a busy machine it may have been killed before it wrote any.
    for pid in pids.read_text().split() if pids.exists() else ():
        assert until(partial(has_ended, pid), LONG)


@pytest.mark.parametrize("deaf", [False, True])
def test_the_hook_s_own_end_ends_it_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    """It has some time to end in good order, and is killed after that."""
    monkeypatch.setattr(scripts, "_GRACE", 0.1)
    handle = "trap '' TERM" if deaf else ""
    pid = folder / "pid"
    path = write(folder / "one", f"{handle}\necho $$ >{pid}; kill -TERM $PPID; sleep {LONG}")
    with pytest.raises(Interrupted) as failure:
        run([str(path)], EVENT, b"", LONG, Lines())
    assert failure.value.problem == (
        f"{path}: stopped by SIGTERM, together with everything that it had started"
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_one_that_ends_when_it_is_asked_to_has_no_group_left() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", f"{LONG}"], {}, setsid=True)
    scripts._kill(pid, LONG)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_at_the_end_each_is_run_whatever_becomes_of_the_others(folder: Path) -> None:
    place, log = folder / "release/end", Lines()
    write(place / "1", "echo one >&2; exit 1")
    write(place / "2", f"touch {folder}/two; exit 2", mode=0o777)
    write(place / "3", f"touch {folder}/three")
    problems = run_all(str(folder), Event("win11", "release", "end"), b"", LONG, log)
    assert [problem.problem.removeprefix(f"{place}/") for problem in problems] == [
        "1: exit code 1: one",
        "2: users other than its owner may write to it",
    ]
    assert [path.name for path in folder.iterdir()].count("two") == 0
    assert (folder / "three").exists()


def test_the_hook_s_own_end_keeps_the_others_from_being_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "_GRACE", 0.1)
    place = folder / "release/end"
    write(place / "1", f"kill -INT $PPID; sleep {LONG}")
    write(place / "2", f"touch {folder}/two")
    with pytest.raises(Interrupted, match="stopped by SIGINT"):
        run_all(str(folder), Event("win11", "release", "end"), b"", LONG, Lines())
    assert not (folder / "two").exists()


def test_what_it_prints_goes_to_the_systemd_journal(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as journal:
        journal.bind(scripts.STREAM)
        journal.listen()
        path = write(folder / "one", "echo out; echo error >&2; exit 1")
        with pytest.raises(HookError, match="exit code 1: error"):
            run([str(path)], EVENT, b"", LONG, Lines())
        stream, _ = journal.accept()
        with stream, stream.makefile("r") as printed:
            lines = printed.read().splitlines()
    title = f"win11: output of {path}"
    assert lines[:8] == ["vfio-hooks", "", "6", "0", "0", "0", "0", title]
    assert sorted(lines[8:]) == ["error", "out"]


def test_errors_are_passed_on_as_they_come(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, scripts._Errors(ours) as errors:
        for text in (b"one\n", b"two\n"):
            os.write(errors.fileno(), text)
            errors.pass_on()
            assert theirs.recv(99) == text
        os.ftruncate(errors.fileno(), 0)
        os.write(errors.fileno(), b"new\n")
        errors.pass_on()
        assert theirs.recv(99) == b"new\n"
        assert errors.last_line() == "new"


def test_a_log_that_does_not_read_is_not_waited_for(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, scripts._Errors(ours) as errors:
        os.write(errors.fileno(), b"x" * (1 << 22))
        errors.pass_on()
        errors.pass_on()
        assert len(theirs.recv(1 << 10)) == 1 << 10
