"""Running other programs: always with a timeout, always with one clear line on failure."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class VmError(Exception):
    """A failure of the tool, told in one line: what, on what, why, what to do."""


def last_line(text: str) -> str:
    """The last line with something in it: where programs put the reason they failed."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"


def run(
    argv: Sequence[str],
    what: str,
    *,
    timeout: float,
    input: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
) -> str:
    """Run a program to its end and return its stdout; `what` names the task in an error."""
    try:
        done = subprocess.run(
            list(argv),
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            cwd=cwd,
            env=env,
        )
    except FileNotFoundError as error:
        raise VmError(f"cannot {what}: program {error.filename} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise VmError(f"cannot {what}: {argv[0]} did not end within {timeout:.0f} s") from error
    if done.returncode not in accept:
        reason = last_line(done.stderr or done.stdout)
        raise VmError(f"cannot {what}: {argv[0]} exited {done.returncode}: {reason}")
    return done.stdout


def run_logged(argv: Sequence[str], what: str, *, timeout: float, log: Path) -> None:
    """Run a long program in a cage, its output appended to `log`.

    The cage is a mount and a process namespace that end with the program and with this
    process, so that an interrupted build leaves neither a mount nor a process behind.
    """
    cage = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork"]
    cage += ["--kill-child", "--mount-proc"]
    try:
        with log.open("ab") as sink:
            done = subprocess.run(
                [*cage, *argv],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                timeout=timeout,
                env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            )
    except FileNotFoundError as error:
        raise VmError(f"cannot {what}: program {error.filename} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise VmError(
            f"cannot {what}: {argv[0]} did not end within {timeout:.0f} s; see {log}"
        ) from error
    if done.returncode != 0:
        reason = last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise VmError(
            f"cannot {what}: {argv[0]} exited {done.returncode}: {reason}; all of it is in {log}"
        )


@contextmanager
def progress(what: str, usually: float) -> Iterator[None]:
    """Tell on stderr that a long step starts, how long it usually takes (s), and its end.

    The end is also added to the file that $VFIO_HOOKS_MADE names, for the last lines of a run.
    """
    began = time.monotonic()
    print(f"{what} (usually {usually:.0f} s) ...", file=sys.stderr, flush=True)
    yield
    done = f"{what}: done in {time.monotonic() - began:.0f} s"
    print(done, file=sys.stderr, flush=True)
    if made := os.environ.get("VFIO_HOOKS_MADE"):
        with Path(made).open("a", encoding="utf-8") as file:
            file.write(f"{done}\n")


def poll(condition: Callable[[], bool], what: str, *, deadline: float, every: float = 0.2) -> None:
    """Ask `condition` every `every` s until it holds; an error after `deadline` s."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() >= end:
            raise VmError(f"{what} did not happen within {deadline:.0f} s")
        time.sleep(every)
