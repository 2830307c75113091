"""A fast test starts no process, unless it says so with the mark `real_processes`.

One that does so without knowing it is slow, and depends on the machine that it runs on. Python
audits every way to start one, whoever calls it: https://docs.python.org/3/library/audit_events.html
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_STARTS = frozenset(
    ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system")
    + ("subprocess.Popen",)
)


class Guard:
    """Refuses every start of a process while it is switched on."""

    def __init__(self) -> None:
        self._is_on = False
        self._refused: list[str] = []
        # There is no way to take it away again.
        sys.addaudithook(self._audit)

    def _audit(self, event: str, args: tuple[object, ...]) -> None:
        if event in _STARTS and self._is_on:
            what = f"{event}{args[:2]} starts a real process; is the mark real_processes missing?"
            self._refused.append(what)
            pytest.fail(what)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Refuse processes. A test whose code goes on in spite of that fails at its end."""
        self._refused.clear()
        self._is_on = True
        try:
            yield
        finally:
            self._is_on = False
        if self._refused:
            pytest.fail(self._refused[0])


def has_ended(pid: str) -> bool:
    """Whether a process is gone, or a zombie that nobody has waited for yet. It may go at any
    moment, so its state is read in one look."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


_GUARD = Guard()


@pytest.fixture(autouse=True)
def processes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuses processes in a fast test, which has none of the folders below this one."""
    is_fast = request.path.parent == Path(__file__).parent
    if not is_fast or request.node.get_closest_marker("real_processes"):
        yield
        return
    with _GUARD.on():
        yield
