"""The service that plays the rounds with libvirt's own commands, and its safety timer."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress

from vfio_hooks import HOOKS, VM_FOLDERS
from vfio_hooks.commands import run
from vfio_hooks.config import load
from vfio_hooks.domain import parse
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import Host
from vfio_hooks.host.units import DISPLAY_MANAGER
from vfio_hooks.log.history import events, read
from vfio_hooks.plugins.pci.familiar import FOLDER as DEVICES
from vfio_hooks.rehearse import RESCUE, SERVICE
from vfio_hooks.rehearse.before import is_active
from vfio_hooks.rehearse.clone import name_of, uuid_of
from vfio_hooks.rehearse.looks import of
from vfio_hooks.rehearse.report import Report
from vfio_hooks.rehearse.rounds import Stage, play
from vfio_hooks.services import VIRSH, argv
from vfio_hooks.wait import until

MODULE = "vfio_hooks.rehearse"
_CONTROL = 12.0
"""For how many seconds the host is watched for what changes by itself: irqbalance acts every
ten."""
_START, _END = 900, 300
"""How many seconds libvirt may take for a start or end: a start may pin terabytes of memory."""
_TICK = "*:*:0/10"
# The service may just be stopping, and ending the clone itself.
_UNLESS_ACTIVE = (
    f"case $(systemctl show --property=ActiveState --value {SERVICE}) in"
    ' active|activating|deactivating) ;; *) exec "$@" ;; esac'
)


def launch(vm: str, xml: str, rounds: int, report: str) -> None:
    """Have systemd play the rounds, independent of the user's session. Raises HookError."""
    program = argv(MODULE, "play", vm, xml, str(rounds), report, site=True)
    # Only the service's own process gets the signal to stop: it ends the round first.
    properties = ("Type=exec", "KillMode=mixed", f"TimeoutStopSec={_START + _END}")
    options = [f"--property={each}" for each in properties]
    words = ["systemd-run", "--quiet", "--collect", f"--unit={SERVICE}", *options]
    run([*words, f"--description=Rehearsal of VM {vm}", "--", *program], 60)


def conduct(vm: str, xml: str, rounds: int, path: str) -> int:
    """What the service does: rehearse, and write a report. Returns the exit code."""
    report, host, signals = Report(path, vm), Host(), list[int]()
    signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    try:
        _arm(host, vm, path)
        try:
            found = _rehearse(host, vm, xml, rounds, report, lambda: bool(signals))
        finally:
            tidy(vm)
    except HookError as error:
        found = [str(error)]
    report.conclude(found)
    with suppress(HookError):
        disarm()
    return int(bool(found))


def _rehearse(
    host: Host, vm: str, xml: str, rounds: int, report: Report, stopped: Callable[[], bool]
) -> list[str]:
    config = load(HOOKS, vm)
    if config is None:
        raise HookError(f"{vm} no longer has a folder")
    with open(xml, "rb") as file:
        looks = of(host, parse(file.read()), config)
    report.tell(f"watching for {_CONTROL:g} s what changes by itself")
    first = looks.take()
    until(stopped, _CONTROL)
    looks.learn(first)
    for key, how in looks.moving.items():
        report.tell(f"ignored, because it changes by itself: {key}: {how}")
    link(vm)

    def end() -> None:
        end_vm(uuid_of(vm))

    def start() -> None:
        run([*VIRSH, "create", xml, "--paused"], _START)

    stage = Stage(start, end, looks, lambda since: warnings(name_of(vm), since), report.tell)
    return play(stage, rounds, stopped)


def end_vm(uuid: str) -> None:
    """End a VM if it runs. Raises HookError."""
    if uuid in run([*VIRSH, "list", "--uuid"], 60).split():
        run([*VIRSH, "destroy", uuid], _END)


def link(vm: str) -> None:
    """Give the clone the VM's folder. Raises HookError."""
    path = link_path(vm)
    try:
        if os.path.islink(path):
            os.unlink(path)
        os.symlink(vm, path)
    except OSError as error:
        raise HookError(f"{path}: cannot be made: {reason(error)}") from None


def link_path(vm: str) -> str:
    return f"{HOOKS}/{VM_FOLDERS}/{name_of(vm)}"


def tidy(vm: str) -> None:
    """Remove what was made for the clone."""
    for path in (f"{DEVICES}/{uuid_of(vm)}", link_path(vm)):
        if os.path.islink(path) or os.path.isfile(path):
            os.unlink(path)


def warnings(name: str, since: float) -> Sequence[str]:
    """The warnings of the clone's hooks since a time."""
    with suppress(HookError):
        run(["journalctl", "--sync"], 30)
        past = events(read(f"@{since:.0f}"), name)
        return [line.text for one in past for line in one.lines if line.warning]
    return []


def _arm(host: Host, vm: str, report: str) -> None:
    """Start a timer that undoes everything if this service dies. Raises HookError."""
    desktop = [DISPLAY_MANAGER] if is_active(host, DISPLAY_MANAGER) else []
    program = argv(MODULE, "rescue", vm, report, *desktop, site=True)
    words = ["systemd-run", "--quiet", "--collect", f"--unit={RESCUE}", f"--on-calendar={_TICK}"]
    words += ["--timer-property=AccuracySec=1s", "--", "sh", "-c", _UNLESS_ACTIVE, "sh", *program]
    run(words, 60)


def disarm() -> None:
    """Stop the timer. Raises HookError if there is none."""
    run(["systemctl", "stop", "--", RESCUE], 60)
