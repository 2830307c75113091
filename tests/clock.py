"""Waiting without a pause, for tests on fakes: what they wait for does not come by itself."""

import time

import pytest


class Clock:
    """Stands in for the module `time` where code waits: a pause only moves the clock on."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Seconds since any moment."""
        return time.monotonic() + self._ahead

    def sleep(self, seconds: float) -> None:
        """Let this time have passed."""
        self._ahead += seconds


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """`until` of vfio_hooks.wait looks as often as ever, but does not sleep between two looks."""
    monkeypatch.setattr("vfio_hooks.wait.time", Clock())
