"""What a run tells while it lasts."""

from typing import Any

import pytest

from tests.report import EVERY, Progress


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
