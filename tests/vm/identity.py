"""Which process is meant: a number alone may be a stranger's by the time it is used."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path

from tests.vm.process import VmError


def start_time(pid: int) -> str:
    """Boot id and start tick of a process: together they name it once and for all."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    # The name in field 2 may hold blanks and brackets; what follows the last one may not.
    fields = stat.rpartition(")")[2].split()
    state, ticks = fields[0], fields[19]
    return "" if state in "ZX" else f"{boot.strip()} {ticks}"


def kill(pid: int, started: str) -> None:
    """Kill the process that has this number *and* this start time, and wait for its end."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # Checked after the handle is open: from here on the number cannot change hands.
        if start_time(pid) != started:
            return
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], 30)[0]:
            raise VmError(f"QEMU (process {pid}) is still there 30 s after SIGKILL")
    finally:
        os.close(handle)
