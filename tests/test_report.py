"""What a run tells while it lasts."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.report import EVERY, Progress, made, times
from tests.vm.process import progress


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
    each_minute = Progress(reporter, total=3)
    each_minute.pytest_runtest_logfinish("tests/test_a.py::test_one")
    assert reporter.lines == []
    for part in (True, True):
        report: Any = Report("tests/vm/test_b.py::test_two[forky]@group", part)
        each_minute.pytest_runtest_logreport(report)
    each_minute.told -= EVERY
    each_minute.began -= 125
    each_minute.pytest_runtest_logfinish("tests/vm/test_b.py::test_two[forky]@group")
    each_minute.pytest_runtest_logfinish("tests/vm/test_b.py::test_three[forky]@group")
    assert reporter.lines == [
        "[2 min: 2 of 3 tests, 1 failed; last tests/vm/test_b.py::test_two[forky]]"
    ]


def test_the_time_of_each_part() -> None:
    tests = [
        ("tests/vm/test_gpu.py::test_a[trixie]@tests.vm.test_gpu-trixie", 30.0),
        ("tests/vm/test_gpu.py::test_b[trixie-True]@tests.vm.test_gpu-trixie", 60.0),
        ("tests/vm/test_gpu.py::test_a[forky]@tests.vm.test_gpu-forky", 45.0),
        ("tests/vm/test_tool.py::test_c", 9.0),
        ("tests/desktop/test_layouts.py::test_e[trixie-sway]", 600.0),
        ("tests/test_linters.py::test_ruff", 24.0),
        ("tests/test_users.py::test_d[trixie]", 3.0),
    ]
    assert times(tests) == [
        " 10.0 min  desktops",
        "  0.8 min  emulated hosts, forky",
        "  0.1 min  emulated hosts, others",
        "  1.5 min  emulated hosts, trixie",
        "  0.1 min  fast tests",
        "  0.4 min  linters",
    ]


def test_what_was_made_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "made"
    file.write_text("installing tools with pip: done in 9 s\n")
    monkeypatch.setenv("VFIO_HOOKS_MADE", str(file))
    with progress("trixie: first boot", 60):
        pass
    first, second = made()
    assert first == "installing tools with pip: done in 9 s"
    assert re.fullmatch(r"trixie: first boot: done in \d+ s", second)
    # Under pytest alone nobody collects it.
    monkeypatch.delenv("VFIO_HOOKS_MADE")
    with progress("trixie: first boot", 60):
        pass
    assert made() == []
