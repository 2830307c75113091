"""What a run of the tests prints besides pytest's own output: progress, times, versions."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.vm import versions
from tests.vm.release import RELEASES

EACH_CHANGE = ("", "not matrix_only")  # the marks that are asked for, see tests/run
EVERY = 60.0  # s between two lines of progress


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options for the tests in the emulated host."""
    group = parser.getgroup("emulated host")
    group.addoption("--guest", choices=RELEASES, help="all tests, on this release only")
    group.addoption("--matrix", action="store_true", help="all tests on all releases")
    group.addoption(
        "--running-guest",
        action="store_true",
        help="use the guests that `python3 -m tests.vm boot` left running",
    )


@dataclass(eq=False)  # pytest keeps its plugins in sets
class Progress:
    """A line a minute: a test in the emulated host takes half of one, and a dot says little."""

    reporter: pytest.TerminalReporter
    total: int = 0
    ended: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    began: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)

    def pytest_collection_modifyitems(self, items: Sequence[pytest.Item]) -> None:
        """Without workers this process runs the tests itself."""
        self.total = len(items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Every worker collects the same tests."""
        self.total = len(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how a test, or its preparation, ended."""
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Print what is done, when it is time to."""
        self.ended.add(nodeid)
        now = time.monotonic()
        if now - self.told < EVERY:
            return
        self.told = now
        done = f"{(now - self.began) / 60:.0f} min: {len(self.ended)} of {self.total} tests"
        failures = f", {len(self.failed)} failed" if self.failed else ""
        self.reporter.ensure_newline()
        self.reporter.write_line(f"[{done}{failures}; last {nodeid.partition('@')[0]}]")


@pytest.hookimpl(trylast=True)  # after pytest's own, which makes the reporter
def pytest_configure(config: pytest.Config) -> None:
    """Only the main process reports progress."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Progress(reporter), "progress")


def part(test: str) -> str:
    """Which part of a run a test belongs to, by its id."""
    if not test.startswith("tests/vm/"):
        fast = "linters" if test.startswith("tests/test_linters.py") else "fast tests"
        return "desktops" if test.startswith("tests/desktop/") else fast
    release = next((one for one in RELEASES if f"[{one}" in test), "others")
    return f"emulated hosts, {release}"


def times(tests: Iterable[tuple[str, float]]) -> list[str]:
    """A line on how long each part of a run took, of tests by their ids and seconds."""
    seconds = defaultdict[str, float](float)
    for test, took in tests:
        seconds[part(test)] += took
    return [f"{took / 60:5.1f} min  {name}" for name, took in sorted(seconds.items())]


def made() -> list[str]:
    """What this run has made for its tests, each with its time; see tests/run."""
    told = os.environ.get("VFIO_HOOKS_MADE")
    return Path(told).read_text(encoding="utf-8").splitlines() if told else []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print how long each part took, what was made for the run, and what has changed in a release
    since all its tests passed last."""
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    whole = whole and config.option.markexpr in EACH_CHANGE and not config.option.keyword
    reports = [
        report
        for kind in ("passed", "failed", "error")
        for report in terminalreporter.getreports(kind)
    ]
    if whole:
        told = [report for kind in terminalreporter.stats.values() for report in kind]
        timed = (one for one in told if isinstance(one, pytest.TestReport))
        took = times((report.nodeid, report.duration) for report in timed)
        title = ["time of all tests, of all processes together:"] if took else []
        for line in (*title, *took, *made()):
            terminalreporter.write_line(line)
    for release in RELEASES:
        own = [report for report in reports if f"[{release}" in report.nodeid]
        if not own:
            continue
        for line in versions.changes(release):
            terminalreporter.write_line(f"{release}, since all its tests passed: {line}")
        if whole and all(report.passed for report in own):
            versions.keep(release)
