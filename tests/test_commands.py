"""External commands, with the module sh and without."""

import sys
import time

import pytest

from vfio_hooks.commands import run
from vfio_hooks.errors import HookError

MUCH = "i=0; while [ $i -lt 20000 ]; do echo 0123456789; i=$((i + 1)); done"


@pytest.fixture(params=["sh", "without"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "without":
        monkeypatch.setitem(sys.modules, "sh", None)
    return str(request.param)


RIGHT = {
    "nothing": ("true", ""),
    "both outputs": ("echo out; echo err >&2", "out\n"),
    "much": (MUCH, "0123456789\n" * 20000),
    "a closed output": ("exec >&- 2>&-; sleep 0.2", ""),
    "a child that keeps both": ("echo out; sleep 300 &", "out\n"),
    "a child that keeps stdout": ("echo out; sleep 300 2>&- &", "out\n"),
    "a child that keeps stderr": ("echo out; sleep 300 >&- &", "out\n"),
    "much, and a child": (f"{MUCH}; sleep 300 &", "0123456789\n" * 20000),
}


@pytest.mark.parametrize(("command", "printed"), RIGHT.values(), ids=RIGHT)
def test_what_a_command_prints(command: str, printed: str) -> None:
    begin = time.monotonic()
    assert run(["sh", "-c", command], 60) == printed
    assert time.monotonic() - begin < 200


WRONG = {
    "exit code": ("echo one >&2; echo two >&2; exit 3", "exit code 3: two"),
    "exit code, and a child": ("echo two >&2; sleep 300 & exit 3", "exit code 3: two"),
    "too slow": ("echo out; sleep 300", "not done after 0.5 s, so it was killed"),
    "too slow and mute": ("exec >&- 2>&-; sleep 300", "not done after 0.5 s, so it was killed"),
}


@pytest.mark.parametrize(("command", "told"), WRONG.values(), ids=WRONG)
def test_a_command_that_fails(command: str, told: str) -> None:
    begin = time.monotonic()
    with pytest.raises(HookError) as caught:
        run(["sh", "-c", command], 0.5 if "0.5" in told else 60)
    assert caught.value.problem.endswith(told)
    assert time.monotonic() - begin < 200


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(HookError, match=r"^no-such-program: no such program; install it"):
        run(["no-such-program"], 3)
