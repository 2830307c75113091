"""The three watchdog sysctls, of which a read of one can switch another off.

From kernel/watchdog.c of Linux 6.12, seen on the emulated host: each file has a variable, what
runs is worked out from all three when one of them is changed by a write, and a read first sets
its file's variable to what runs.
"""

from typing import Protocol

BOTH = "/proc/sys/kernel/watchdog"
ONE = ("/proc/sys/kernel/nmi_watchdog", "/proc/sys/kernel/soft_watchdog")


class Files(Protocol):
    """A kernel in memory; its files hold the variables."""

    files: dict[str, str]
    watching: set[str]
    """Which of the two watchdogs run."""


def add(kernel: Files, nmi: int = 1) -> None:
    """Both watchdogs, running."""
    kernel.files |= {BOTH: "1\n", ONE[0]: f"{nmi}\n", ONE[1]: "1\n"}
    _update(kernel)


def read(kernel: Files, name: str) -> str:
    """What a file shows."""
    runs = bool(kernel.watching) if name == BOTH else name in kernel.watching
    kernel.files[name] = f"{int(runs)}\n"
    return str(int(runs))


def write(kernel: Files, name: str, text: str) -> None:
    """Set a file's variable."""
    old, kernel.files[name] = kernel.files[name], text + "\n"
    if kernel.files[name] != old:
        _update(kernel)


def _update(kernel: Files) -> None:
    on = kernel.files[BOTH] == "1\n"
    kernel.watching = {name for name in ONE if on and kernel.files[name] == "1\n"}
