"""What runs beside a VM, so that nothing that was started for it outlives it.

libvirt calls its hook at a VM's end, but only while libvirt itself runs. So these are separate
programs, which systemd runs. One ends with QEMU's process, and the units that need it end with it.
Another one logs how a helper program ended.
"""

import os
import select
from collections.abc import Callable, Sequence

import vfio_hooks
from vfio_hooks.host import Host
from vfio_hooks.log import SystemdJournal
from vfio_hooks.wait import until

VIRSH = ("virsh", "--quiet", "--connect", "qemu:///system")
Ended = Callable[[float], bool]
"""Waits so many seconds at most, and says whether the VM has ended."""
STARTS = 600.0
"""Seconds after `prepare` within which libvirt has started QEMU. A start that takes longer was
never finished, or libvirtd was killed during it."""


def pidfile(vm: str) -> str:
    """Where libvirt keeps the number of a VM's QEMU process."""
    return f"{vfio_hooks.RUNNING}/{vm}.pid"


def argv(module: str, *arguments: str, site: bool = False) -> tuple[str, ...]:
    """The command line that runs one of our modules by systemd. With `site` the module may import
    installed packages."""
    place = f"PYTHONPATH={os.path.dirname(vfio_hooks.__path__[0])}"
    options = "-BP" if site else "-BPS"
    return ("/usr/bin/env", place, "/usr/bin/python3", options, "-m", module, *arguments)


def lifetime(vm: str) -> tuple[str, ...]:
    """The command line of a program that ends when a VM does, started at `prepare` or later."""
    return argv(__name__, "until", pidfile(vm))


def open_process(path: str) -> int | None:
    """A file descriptor that becomes readable when the process of a pidfile ends; None where
    there is no such process. Raises OSError or ValueError for a file that cannot be used."""
    try:
        return os.pidfd_open(int(Host().read(path)))
    except (FileNotFoundError, ProcessLookupError):
        return None


def has_ended(process: int, seconds: float) -> bool:
    """Whether a process has ended, by its descriptor, after a wait of at most so many seconds."""
    return bool(select.select([process], [], [], seconds)[0])


def wait_for_end(path: str, starts: float) -> None:
    """Return when the process of a pidfile has ended, or does not exist within `starts` seconds."""
    found: list[int] = []

    def is_there() -> bool:
        process = open_process(path)
        found.extend([] if process is None else [process])
        return bool(found)

    if until(is_there, starts):
        select.select(found, [], [])


def tell_end(vm: str, unit: str, how: dict[str, str]) -> None:
    """Log the unexpected end of a helper program. `how` is systemd's environment for ExecStopPost=,
    see systemd.exec(5)."""
    result, code, status = (how.get(n, "") for n in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS"))
    if result == "success":
        return
    ended = f"exit code {status}" if code == "exited" else f"killed by SIG{status}"
    if result not in ("exit-code", "signal"):
        ended += f" ({result})"
    text = f"{vm}: process: {unit} ended: {ended}; journalctl -u '{unit}' has what it printed"
    SystemdJournal(event="process", event_of=vm).warning(text, vm)


def main(words: Sequence[str] | None = None) -> int:
    """services until PIDFILE | services ended VM UNIT"""
    import argparse  # Slow, and plugins import this module.

    parser = argparse.ArgumentParser(prog="services", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    end = verbs.add_parser("until", help="end when the process of a pidfile does")
    end.add_argument("pidfile")
    end.add_argument("--starts", type=float, default=STARTS, help="seconds that it may be missing")
    told = verbs.add_parser("ended", help="log how a unit ended")
    told.add_argument("vm")
    told.add_argument("unit")
    arguments = parser.parse_args(words)
    if arguments.verb == "until":
        wait_for_end(arguments.pidfile, arguments.starts)
    else:
        tell_end(arguments.vm, arguments.unit, dict(os.environ))
    return 0
