"""What all tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.clock import no_pauses as no_pauses
from tests.command import Command
from tests.processes import processes as processes

# pytest's hooks.
from tests.report import pytest_addoption as pytest_addoption
from tests.report import pytest_configure as pytest_configure
from tests.report import pytest_terminal_summary as pytest_terminal_summary

# On a busy machine any example may take long. Each run tries the same examples.
settings.register_profile(
    "steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, like /run: journals are synced, which is slow on a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The vfio-hooks command, with a host, a configuration and a state of its own."""
    return Command(tmp_path, capsys, monkeypatch)
