"""What the timer does if the service of a rehearsal has died: end the clone, undo, clean up."""

import select
import signal
from collections.abc import Callable
from os import close

from vfio_hooks.commands import run
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import told
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.log import SystemdJournal
from vfio_hooks.rehearse.clone import name_of, uuid_of
from vfio_hooks.rehearse.report import Report
from vfio_hooks.rehearse.service import disarm, end_vm, tidy
from vfio_hooks.services import open_process, pidfile

_ENDS = 30
"""How long a killed process may take to be gone, in seconds."""


def rescue(vm: str, path: str, desktop: str | None) -> int:
    """Undo everything that is left of a rehearsal, even if a part fails, and write it into the
    report. Returns the exit code."""
    report = Report(path, vm)
    report.tell("the rehearsal has died: ending the clone, and undoing everything")
    name, problems = name_of(vm), list[str]()
    log = SystemdJournal(event="rescue", event_of=name)
    engine = Engine(WritableHost("/"), StateFolder(), log)
    steps: tuple[Callable[[], object], ...] = (
        lambda: _end(name, uuid_of(vm)),
        lambda: problems.extend(engine.undo("undo", uuid_of(vm), name)),
        lambda: tidy(vm),
        lambda: run(["systemctl", "start", "--", desktop], 120) if desktop else None,
    )
    for step in steps:
        try:
            step()
        except Exception as error:
            problems.append(told(error))
    report.conclude(["the rehearsal died before its end", *problems])
    disarm()
    return int(bool(problems))


def _end(name: str, uuid: str) -> None:
    """End the clone; if libvirt does not, end its process. Raises HookError."""
    try:
        end_vm(uuid)
    except Exception:
        _kill(name, uuid)
        raise


def _kill(name: str, uuid: str) -> None:
    path, host = pidfile(name), Host()
    process = open_process(path)
    if process is None:
        return
    try:
        # By now its number may belong to another process.
        if uuid in host.read(f"/proc/{host.read(path)}/cmdline"):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            select.select([process], [], [], _ENDS)
    finally:
        close(process)
