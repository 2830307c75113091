"""What all tests share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Command


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, as /run is: journals are synced, which a disk makes slow."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.fixture
def command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """The vfio-hooks command, with a host, a configuration and a state of its own."""
    return Command(tmp_path, capsys, monkeypatch)
