"""What a run tells while it lasts."""

from typing import Any

import pytest

from tests.report import EVERY, Progress, parts


class Reporter:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def ensure_newline(self) -> None:
        pass

    def write_line(self, line: str) -> None:
        self.lines.append(line)


class Report:
    def __init__(self, nodeid: str, failed: bool) -> None:
        self.nodeid, self.failed = nodeid, failed


def test_a_process_that_people_look_at_has_it(pytestconfig: pytest.Config) -> None:
    manager = pytestconfig.pluginmanager
    assert manager.has_plugin("progress") != hasattr(pytestconfig, "workerinput")


def test_a_line_now_and_then() -> None:
    reporter: Any = Reporter()
    progress = Progress(reporter, total=3)
    progress.pytest_runtest_logfinish("tests/test_a.py::test_one")
    assert reporter.lines == []
    for part in (True, True):
        report: Any = Report("tests/vm/test_b.py::test_two[forky]@group", part)
        progress.pytest_runtest_logreport(report)
    progress.told -= EVERY
    progress.began -= 125
    progress.pytest_runtest_logfinish("tests/vm/test_b.py::test_two[forky]@group")
    progress.pytest_runtest_logfinish("tests/vm/test_b.py::test_three[forky]@group")
    assert reporter.lines == [
        "[2 min: 2 of 3 tests, 1 failed; last tests/vm/test_b.py::test_two[forky]]"
    ]


def test_the_time_of_each_part() -> None:
    tests = [
        ("tests/vm/test_gpu.py::test_a[trixie]@tests.vm.test_gpu-trixie", 30.0),
        ("tests/vm/test_gpu.py::test_b[trixie-True]@tests.vm.test_gpu-trixie", 60.0),
        ("tests/vm/test_gpu.py::test_a[forky]@tests.vm.test_gpu-forky", 45.0),
        ("tests/vm/test_tool.py::test_c", 9.0),
        ("tests/test_users.py::test_d[trixie]", 3.0),
    ]
    assert parts(tests) == "forky 0.8 min, trixie 1.5 min, without an emulated host 0.2 min"
