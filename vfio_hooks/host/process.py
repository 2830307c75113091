"""Who runs a process, and the environment that it was started with.

proc_pid_status(5), proc_pid_environ(5)
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host


def uid(host: Host, pid: int | str) -> int | None:
    """The real user ID of a process; None if it has ended."""
    status = host.maybe(f"/proc/{pid}/status") or ""
    found = re.search(r"^Uid:\t(\d+)", status, re.MULTILINE)
    return int(found[1]) if found else None


def environ(host: Host, pid: int | str) -> dict[str, str]:
    """The variables that a process was started with; empty if it has ended or may not be looked
    at."""
    text = host.maybe(f"/proc/{pid}/environ") or ""
    pairs = (pair.partition("=") for pair in text.split("\0") if pair)
    return {name: value for name, _, value in pairs}
