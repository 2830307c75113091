"""Where the lines come from: the systemd journal, the kernel's own buffer, QEMU's log of a VM."""

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Literal

from vfio_hooks.commands import find, run
from vfio_hooks.errors import HookError, unreadable
from vfio_hooks.log import IDENTIFIER, WARNING
from vfio_hooks.log.history import MOST, entries_of, is_roots, text_of
from vfio_hooks.record import record, replace

Source = Literal["kernel", "qemu", "libvirt", "hook", "text"]
QEMU_LOGS = "/var/log/libvirt/qemu"
KMSG = "/dev/kmsg"
_SECONDS = 60
_FIELDS = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,VFIO_HOOKS_VM,_SYSTEMD_UNIT,_UID"
_KERNEL = "_TRANSPORT=kernel"
# AppArmor and SELinux log to the audit system if it runs, and otherwise to the kernel's log.
_AUDIT = "_TRANSPORT=audit"
# libvirt's lines have no identifier.
_DAEMONS = ("libvirtd.service", "virtqemud.service")
_NEWEST = 4 << 20
"""How much of the end of QEMU's log is read, in bytes."""
# "2026-11-29 21:00:00.123+0000: starting up", and "2026-11-29T21:00:00.123456Z qemu-system-..."
_STAMP = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d+)(?:Z|\+0000):? ?(.*)")
_START = "starting up libvirt version"
_LARGEST_RECORD = 8192  # CONSOLE_EXT_LOG_MAX of Linux


@record
class Line:
    """One line of a log; `time` is in seconds since 1970. For the hook's and libvirt's lines,
    `is_warning` says whether something went wrong."""

    time: float
    source: Source
    text: str
    is_warning: bool = False


def since(start: float, vm: str) -> list[Line]:
    """What kernel, libvirt and hook have logged since a time (seconds since 1970), without lines
    about other VMs. Without a systemd journal this is only the kernel's buffer. Raises
    HookError.

    Each boot has lines of the kernel. A journal without any does not exist, or may not be read by
    this user, in which case journalctl succeeds all the same.
    """
    if find("journalctl") is None:
        return [line for line in kernel_buffer() if line.time >= start]
    wanted = [_KERNEL, "+", _AUDIT, "+", f"SYSLOG_IDENTIFIER={IDENTIFIER}"]
    for daemon in _DAEMONS:
        wanted += ["+", f"_SYSTEMD_UNIT={daemon}"]
    buffer = [] if _journalctl("--boot=0", _KERNEL, "--lines=1") else kernel_buffer()
    found = _entries(_journalctl(f"--since=@{start:.6f}", *wanted), vm)
    return [*found, *(line for line in buffer if line.time >= start)]


def of_boot(boot: int) -> list[Line]:
    """What the kernel has logged in this boot (0) or the one before (-1); nothing if the
    journal does not reach back so far. Raises HookError."""
    if find("journalctl") is None:
        return [] if boot else kernel_buffer()
    try:
        found = list(_entries(_journalctl(f"--boot={boot}", _KERNEL, "+", _AUDIT), ""))
        return found if found or boot else kernel_buffer()
    except HookError:
        if not boot:
            raise
        # A journal in memory ends with its boot, and journalctl fails for a boot that it lacks.
        return []


def kernel_buffer(path: str = KMSG) -> list[Line]:
    """The kernel's log of this boot, from its own buffer; nothing in a container, which has none.
    Raises HookError.

    A read returns one record: "priority,number,microseconds,flags;text", and lines of tags that
    begin with a space. https://www.kernel.org/doc/Documentation/ABI/testing/dev-kmsg
    """
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        return [line for record in _records(path) for line in _of_record(record, booted)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(path, error) from None


def qemu_log(vm: str, folder: str = QEMU_LOGS) -> list[Line]:
    """QEMU's log of a VM from its last start on, without the command line; empty if the VM was
    never started. Raises HookError."""
    path = f"{folder}/{vm}.log"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _NEWEST))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise unreadable(path, error) from None
    return _last_start(text)


def _last_start(text: str) -> list[Line]:
    begin = text.rfind("\n", 0, max(0, text.rfind(_START))) + 1
    found: list[Line] = []
    in_command = False
    for line in text[begin:].splitlines():
        when, words = _stamped(line)
        continues, in_command = in_command, line.endswith("\\")
        if continues or in_command or not words:
            continue
        earlier = found[-1].time if found else 0.0
        found.append(Line(earlier if when is None else when, "qemu", words))
    return found if found and _START in found[0].text else []


def _stamped(line: str) -> tuple[float | None, str]:
    stamp = _STAMP.match(line)
    if stamp is None:
        return None, line.strip()
    return datetime.fromisoformat(f"{stamp[1]}+00:00").timestamp(), stamp[2].strip()


def _journalctl(*words: str) -> str:
    argv = ["journalctl", "--output=json", "--all", "--quiet", f"--lines={MOST}"]
    try:
        return run([*argv, f"--output-fields={_FIELDS}", *words], _SECONDS)
    except HookError as error:
        hint = "try again with sudo" if os.geteuid() else error.hint
        raise HookError("the systemd journal cannot be read", hint) from None


def _entries(text: str, vm: str) -> Iterator[Line]:
    for entry in entries_of(text):
        made = _of_entry(entry)
        # Only the kernel writes lines with this transport.
        forged = made.source != "kernel" and not is_roots(entry)
        if not forged and (made.source != "hook" or text_of(entry, "VFIO_HOOKS_VM") == vm):
            yield replace(made, text=made.text.removeprefix(f"{vm}: ")) if vm else made


def _of_entry(entry: dict[str, Any]) -> Line:
    source: Source = "kernel"
    if text_of(entry, "SYSLOG_IDENTIFIER") == IDENTIFIER:
        # The hook is run in libvirt's unit.
        source = "hook"
    elif text_of(entry, "_SYSTEMD_UNIT") in _DAEMONS:
        source = "libvirt"
    priority = text_of(entry, "PRIORITY")
    is_warning = int(priority) <= WARNING if priority.isdecimal() else False
    when = int(entry["__REALTIME_TIMESTAMP"]) / 1_000_000
    return Line(when, source, " ".join(text_of(entry, "MESSAGE").split()), is_warning)


def _records(path: str) -> Iterator[str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        while True:
            try:
                record = os.read(descriptor, _LARGEST_RECORD)
            except BlockingIOError:
                return
            except BrokenPipeError:
                # It was overwritten before it was read: the next read gets the oldest one left.
                continue
            if not record:
                return
            yield record.decode(errors="replace")
    finally:
        os.close(descriptor)


def _of_record(record: str, booted: float) -> Iterator[Line]:
    head, _, body = record.partition(";")
    fields = head.split(",")
    # A number above 7 has a facility: a program wrote it into the buffer, not the kernel.
    if len(fields) >= 3 and fields[0].isdecimal() and int(fields[0]) < 8:
        yield Line(booted + int(fields[2]) / 1_000_000, "kernel", body.split("\n")[0])
