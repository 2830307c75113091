"""External commands, as an event starts them and as the command line does, with sh and without."""

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest

from tests.processes import has_ended
from vfio_hooks import commands
from vfio_hooks.commands import by_sh
from vfio_hooks.errors import CommandFailed, HookError
from vfio_hooks.wait import until

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
MUCH = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i + 1)); done"


class Run(Protocol):
    def __call__(self, argv: list[str], seconds: float) -> str: ...


@pytest.fixture(params=["event", "command line", "command line without sh"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Run:
    if "without" in request.param:
        monkeypatch.setitem(sys.modules, "sh", None)
    return commands.run if request.param == "event" else by_sh.run


RIGHT = {
    "nothing": ("true", ""),
    "both outputs": ("echo out; echo err >&2", "out\n"),
    "much": (MUCH, "0123456789\n" * 20000),
    "much on both": (f"{MUCH} >&2; {MUCH}", "0123456789\n" * 20000),
    "no UTF-8": (r"printf 'a\377b\n'", "a\N{REPLACEMENT CHARACTER}b\n"),
    "an end of line that is none": (r"printf 'a\r\nb\r'", "a\r\nb\r"),
    "nothing to read": ("cat; echo end", "end\n"),
    "its locale and no more": ("env | grep -v ^_= | grep -v ^PWD= | sort", "LC_ALL=C.UTF-8\nPATH"),
    "a session of its own": ("[ `cut -d' ' -f6 /proc/$$/stat` = $$ ] && echo yes", "yes\n"),
    "SIGPIPE as it was": ("(trap '' 1; while echo y; do :; done) | head -n1", "y\n"),
    "a closed output": ("exec >&- 2>&-; sleep 0.2", ""),
    "a child that keeps both": ("echo out; sleep 300 &", "out\n"),
    "a child that keeps stdout": ("echo out; sleep 300 2>&- &", "out\n"),
    "a child that keeps stderr": ("echo out; sleep 300 >&- &", "out\n"),
    "a child that never stops": ("echo out; exec 3>&1; yes 2>&- >&3 & sleep 0.1", "out\n"),
    "much, and a child": (f"{MUCH}; sleep 300 &", "0123456789\n" * 20000),
}


@pytest.mark.parametrize(("command", "printed"), RIGHT.values(), ids=RIGHT)
def test_what_a_command_prints(run: Run, command: str, printed: str) -> None:
    begin = time.monotonic()
    assert run(["sh", "-c", command], 60).startswith(printed)
    assert time.monotonic() - begin < 200


WRONG = {
    "exit code": ("echo one >&2; echo two >&2; exit 3", "exit code 3: two"),
    "exit code, and a child": ("echo two >&2; sleep 300 & exit 3", "exit code 3: two"),
    "no UTF-8": (r"printf 'a\377b\n' >&2; exit 1", "exit code 1: a\N{REPLACEMENT CHARACTER}b"),
    "a signal": ("kill -9 $$", "killed by SIGKILL"),
    "126": ("exit 126", "exit code 126 (the program that it runs cannot be executed)"),
    "127": ("exit 127", "exit code 127 (the program that it runs does not exist)"),
    "too slow": ("echo out; sleep 300", "not finished after 0.5 s, so it was killed"),
    "too slow and mute": ("exec >&- 2>&-; sleep 300", "not finished after 0.5 s, so it was killed"),
    "too slow and loud": ("exec yes", "not finished after 0.5 s, so it was killed"),
}


@pytest.mark.parametrize(("command", "told"), WRONG.values(), ids=WRONG)
def test_a_command_that_fails(run: Run, command: str, told: str) -> None:
    begin = time.monotonic()
    with pytest.raises(HookError) as caught:
        run(["sh", "-c", command], 0.5 if "0.5" in told else 60)
    assert caught.value.problem.endswith(told)
    assert time.monotonic() - begin < 200


def test_a_failure_has_its_parts(run: Run) -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo one >&2; echo 'two: three' >&2; exit 3"], 60)
    error = caught.value
    assert (error.argv[0], error.code, error.said) == ("sh", 3, "two: three")
    assert error.why == "exit code 3: two: three"


def test_a_program_that_is_not_there(run: Run) -> None:
    for name in ("no-such-program", "/no/such/program", "no\0program"):
        with pytest.raises(HookError, match=r": no such program; install it"):
            run([name], 3)


@pytest.mark.parametrize("word", ["a\0b", "\ud800"], ids=["NUL", "surrogate"])
def test_an_argument_that_no_program_can_have(run: Run, word: str) -> None:
    with pytest.raises(HookError, match="these arguments cannot be passed to a program"):
        run(["echo", word], 3)


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no first line")
    (tmp_path / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "folder").mkdir()
    for name, told in (
        ("data", "cannot be run: Exec format error"),
        ("lost", "cannot be run: No such file or directory"),
        ("folder", "no such program"),
    ):
        if name != "folder":
            (tmp_path / name).chmod(0o755)
        with pytest.raises(HookError, match=told):
            commands.run([str(tmp_path / name)], 3)


def test_what_is_too_slow_goes_with_all_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f"sleep 300 & echo $! >{child}; sleep 300"
    # A busy machine may not get as far as to write it, so another try has more time.
    for seconds in (0.5, 5, 60):
        with pytest.raises(HookError):
            commands.run(["sh", "-c", script], seconds)
        if child.exists() and child.read_text():
            break
    assert until(partial(has_ended, child.read_text().strip()), 60)


ALONE = """
import os
from vfio_hooks.commands.spawn import spawn
before = os.listdir("/proc/self/fd")
for argv, seconds in ((["/bin/true"], 60), (["/bin/sleep", "300"], 0.1), (["/"], 1)):
    try:
        spawn(argv, seconds, {})
    except (TimeoutError, PermissionError):
        pass
assert os.listdir("/proc/self/fd") == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("none")
"""


def test_nothing_of_a_program_stays_behind() -> None:
    """In a process of its own: this one may have children of other tests."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (done.stdout, done.stderr) == ("none\n", "")
