"""The guard that keeps fast tests from starting processes: tests/processes.py."""

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.processes import Guard

TRUE = "/usr/bin/true"
GUARD = Guard()
Failed = pytest.fail.Exception


def fork() -> None:
    if not os.fork():
        os._exit(0)


WAYS: list[Callable[[], object]] = [
    fork,
    lambda: os.posix_spawn(TRUE, [TRUE], {}),
    lambda: os.spawnv(os.P_WAIT, TRUE, [TRUE]),
    lambda: os.system(TRUE),
    lambda: subprocess.run([TRUE]),
]


@pytest.mark.real_processes
@pytest.mark.parametrize("start", WAYS)
def test_a_process_is_refused(start: Callable[[], object]) -> None:
    with pytest.raises(Failed, match="real_processes"), GUARD.on():
        start()


@pytest.mark.real_processes
def test_a_refusal_that_is_caught_fails_the_test_at_its_end() -> None:
    with (
        pytest.raises(Failed, match=r"subprocess\.Popen.*/usr/bin/true"),
        GUARD.on(),
        suppress(BaseException),
    ):
        subprocess.run([TRUE])


@pytest.mark.real_processes
def test_the_mark_allows_it() -> None:
    assert subprocess.run([TRUE]).returncode == 0


def test_without_the_mark_it_is_on() -> None:
    from tests import processes

    assert processes._GUARD._is_on
