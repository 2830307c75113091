"""Waiting for a condition: polled, with a deadline, and cut short by a signal."""

from __future__ import annotations

import time
from contextlib import contextmanager

from vfio_hooks.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterator
    from types import FrameType
else:
    # signal itself makes enums of all its constants first.
    import _signal as signal

POLL = 0.05  # seconds between two looks at a condition


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll `condition` until it holds or `seconds` are over; True when it held.

    The condition is always checked once more after the deadline, so that a machine that stood still
    in between (suspend, a slow emulator) does not fail for that.
    """
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        if condition():
            return True
        if late:
            return False
        time.sleep(POLL)


class Signals:
    """SIGTERM, SIGINT and SIGHUP, remembered until `check` is called.

    A signal must not interrupt a rollback, and between a journal record and its kernel write it
    would leave work for `undo`. So the handler raises nothing, and the engine calls `check` between
    two steps. A signal for which nobody has called `check` by the end is sent again when it can do
    no harm: it is also meant for what comes next, such as the undo of the next VM.
    """

    CAUGHT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

    def __init__(self) -> None:
        self._seen: int | None = None

    @property
    def came(self) -> bool:
        """Whether a signal has come since the last check."""
        return self._seen is not None

    def check(self) -> None:
        """Raise `Interrupted` when a signal has come since the last check."""
        if self._seen is not None:
            from signal import Signals as Names

            name = Names(self._seen).name
            self._seen = None
            raise Interrupted(f"stopped by {name}", "what was done so far has been undone")

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Hold signals back while the block runs, and then let the last of them through. If the
        block fails, its exception is raised instead."""

        def remember(number: int, _frame: FrameType | None) -> None:
            self._seen = number

        before = {number: signal.signal(number, remember) for number in self.CAUGHT}
        try:
            yield
        except BaseException:
            self._seen = None
            raise
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._seen is not None:
                seen, self._seen = self._seen, None
                signal.raise_signal(seen)
