"""Timing whole processes against each other, in turns, so that a noisy machine is noisy for all."""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """What is timed. `stdin` is a file; `before` runs untimed before each turn."""

    name: str
    argv: list[str]
    stdin: str = os.devnull
    before: Callable[[], None] | None = None


def spend(command: Command) -> float:
    """Seconds from start to end of one run. Raises RuntimeError when it fails."""
    if command.before:
        command.before()
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, command.stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    started = time.perf_counter()
    child = os.posix_spawn(command.argv[0], command.argv, os.environ, file_actions=actions)
    _, status = os.waitpid(child, 0)
    spent = time.perf_counter() - started
    if status:
        raise RuntimeError(f"{command.name}: exit {os.waitstatus_to_exitcode(status)}")
    return spent


def compare(commands: Sequence[Command], turns: int) -> None:
    """Run all commands in turns and print each one's median beside the first one's."""
    for command in commands:
        spend(command)
    spent = [[spend(command) for command in commands] for _ in range(turns)]
    print(f"{'':44}{'median ms':>12}{'ratio to the first':>22}")
    for number, command in enumerate(commands):
        median = statistics.median(turn[number] for turn in spent)
        ratio = statistics.median(turn[number] / turn[0] for turn in spent)
        print(f"{command.name:44}{median * 1000:>12.1f}{ratio:>22.2f}")
