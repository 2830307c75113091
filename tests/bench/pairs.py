"""Whole processes against each other, in turns, so that a noisy machine is noisy for all."""

import os
import re
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_VALGRIND = (
    "valgrind",
    "--tool=callgrind",
    "--trace-children=yes",
    "--callgrind-out-file=/dev/null",
)
_PEAK = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
print(os.wait4(child, 0)[2].ru_maxrss >> 10, file=sys.stderr)
"""
_STRACE = ("strace", "--follow-forks", "--trace=open,openat", "--quiet=all")


@dataclass(frozen=True)
class Command:
    """What is measured. `stdin` is a file."""

    name: str
    argv: list[str]
    stdin: str = os.devnull


def spend(command: Command) -> float:
    """Seconds of CPU that a command takes, with all that it starts and waits for. Raises
    RuntimeError when it fails."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, command.stdin, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    ]
    child = os.posix_spawn(command.argv[0], command.argv, os.environ, file_actions=actions)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"{command.name}: exit {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


def compare(commands: Sequence[Command], turns: int) -> list[list[float]]:
    """Run all commands in turns and print what each took, beside the first one; returns the
    seconds. Memory, opened files (by strace) and instructions (by valgrind, which takes long) are
    counted in one turn more each, and a line is printed when its last count is there."""
    for command in commands:
        spend(command)
    spent = [[spend(command) for command in commands] for _ in range(turns)]
    memory = [_memory(command) for command in commands]
    opens = [_opens(command) for command in commands]
    print(f"{'':44}{'CPU ms':>9}{'ratio':>8}{'M instr.':>10}{'opens':>7}{'MiB':>6}", flush=True)
    for number, command in enumerate(commands):
        seconds = statistics.median(turn[number] for turn in spent)
        ratio = statistics.median(turn[number] / turn[0] for turn in spent)
        print(
            f"{command.name:44}{seconds * 1000:>9.1f}{ratio:>8.2f}"
            f"{_instructions(command):>10}{opens[number]:>7}{memory[number]:>6}",
            flush=True,
        )
    return spent


def _instructions(command: Command) -> str:
    """Millions of them."""
    told = _under(command, _VALGRIND)
    found = re.findall(r"Collected : (\d+)", told) if told else []
    return f"{sum(map(int, found)) / 1e6:.1f}" if found else "-"


def _opens(command: Command) -> str:
    told = _under(command, _STRACE)
    return "-" if told is None else str(told.count("open"))


def _memory(command: Command) -> str:
    """The most that one of its processes had, in MiB, and no less than a bare Python has: a process
    begins with the peak of the one that started it."""
    return (_under(command, ("/usr/bin/python3", "-IS", "-c", _PEAK)) or "-").strip()


def _under(command: Command, tool: Sequence[str]) -> str | None:
    """What a tool tells of a run on standard error; None where there is no such tool."""
    if shutil.which(tool[0]) is None:
        return None
    with Path(command.stdin).open("rb") as stdin, tempfile.TemporaryFile("w+") as told:
        subprocess.run([*tool, *command.argv], stdin=stdin, stdout=subprocess.DEVNULL, stderr=told)
        told.seek(0)
        return told.read()
