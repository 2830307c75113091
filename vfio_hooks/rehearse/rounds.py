"""The rounds of a rehearsal: start the clone, end it, and check whether the host is as before."""

import time
from collections.abc import Callable, Sequence

from vfio_hooks.errors import HookError
from vfio_hooks.record import record
from vfio_hooks.rehearse.compared import since_when
from vfio_hooks.rehearse.looks import Looks

_SETTLE = 30.0
"""How many seconds things for which nobody waits may take to come back."""


@record
class Stage:
    """What a round needs. `start` and `end` start and end the clone, and raise HookError; `end`
    does nothing if the clone does not run. `warnings` returns the warnings of its hooks since a
    time."""

    start: Callable[[], None]
    end: Callable[[], None]
    looks: Looks
    warnings: Callable[[float], Sequence[str]]
    tell: Callable[[str], None]
    settle: float = _SETTLE


def play(stage: Stage, rounds: int, stopped: Callable[[], bool]) -> list[str]:
    """Play so many rounds. Returns a line for each thing that differs or went wrong. If the clone
    does not start or end in a round, that is the last one."""
    found: list[str] = []
    for number in range(1, rounds + 1):
        if stopped():
            return [*found, f"stopped before round {number} of {rounds}"]
        lines, goes_on = _round(stage, number)
        found += lines
        if not goes_on:
            break
    return found


def _round(stage: Stage, number: int) -> tuple[list[str], bool]:
    """Play one round. Returns what differs or went wrong, and whether another round can follow."""
    stage.tell(f"round {number}: starting the clone")
    before, begin = stage.looks.take(), time.time()
    failed: list[str] = []
    try:
        stage.start()
        stage.tell(f"round {number}: it runs, and will be ended")
    except HookError as error:
        failed.append(f"round {number}: it does not start: {error}")
    running = stage.looks.take()
    try:
        stage.end()
    except HookError as error:
        failed.append(f"round {number}: it does not end: {error}")
    after = stage.looks.settled(before, stage.settle)
    counted = stage.looks.changes(before, after)
    differs = [one for one in since_when(before, running, after, number) if one.key in counted]
    for line in stage.warnings(begin):
        stage.tell(f"round {number}: the hook warns: {line}")
    for line in failed:
        stage.tell(line)
    told = f"{len(differs)} things differ" if len(differs) != 1 else "one thing differs"
    stage.tell(f"round {number}: {told if differs else 'equal'}")
    return [*failed, *map(str, differs)], not failed
