"""Watches whether a guest's driver takes the card that the VM was given, and whether it keeps it.

After a failed start the desktop comes back by itself, but not while a guest runs and shows nothing.
So this program, which systemd runs beside the VM (unit vfio-hooks-alive-UUID), looks every second
for a sign of life. If there is none in time, it says so, with what the logs show, and ends the VM
only if its owner wrote that into vm.toml. From then on it watches the kernel's log for a lost card.
"""

import argparse
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from vfio_hooks.commands import find, run
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.sessions import as_user, environment, graphical
from vfio_hooks.host.signs import Signs, signs
from vfio_hooks.log import SystemdJournal
from vfio_hooks.record import record
from vfio_hooks.services import VIRSH, Ended, has_ended, open_process
from vfio_hooks.why import explain, recognise
from vfio_hooks.why.lines import KMSG, since

ACTIONS = ("tell", "shutdown", "destroy")
LOST = (
    *("device-inaccessible", "aer-uncorrectable", "aer-not-recovered", "dpc-contained"),
    *("not-ready-after-reset", "usb-controller-dead"),
)
"""The names of known lines that say that a passed device is lost: vfio_hooks.why.known."""
_LOOK = 1.0
_GRACE = 10.0
"""How many more seconds a VM gets that is paused or writes to its disks."""
_TRIES = 6
"""How often libvirt is asked to end a VM, _GRACE seconds apart."""
_START = 120.0
"""How many seconds before this watch the VM's start may have begun, for a look at its logs."""
_RUNNING = "1"  # VIR_DOMAIN_RUNNING
_SAID = signal.SIGUSR1
"""Sent by a person who sees that the guest is alive: vfio-hooks alive."""


@record
class Busy:
    """What libvirt says about a VM: whether it runs and is not paused, and how many bytes it has
    written to its disks so far."""

    running: bool
    written: int


@dataclass
class Watch:
    """One VM that is watched. `ask` returns how busy it is, or None if libvirt does not answer.
    `answers` says whether its guest agent answers. `clock` returns seconds."""

    host: Host
    addresses: Sequence[str]
    ask: Callable[[], Busy | None]
    answers: Callable[[], bool]
    clock: Callable[[], float] = time.monotonic
    said: bool = False
    before: dict[str, Signs] = field(default_factory=dict)

    def until_alive(self, seconds: float, ended: Ended) -> str | None:
        """The sign of life, "" if there is none in time, None when the VM has ended."""
        self.before = {address: signs(self.host, address) for address in self.addresses}
        deadline, written = self.clock() + seconds, -1
        while True:
            if sign := self._sign():
                return sign
            if self.clock() >= deadline:
                busy = self.ask()
                # A guest that writes may be doing an update or a disk check, and one that is paused
                # can do nothing. If libvirt does not answer, nothing is known.
                if busy is not None and busy.running and busy.written == written:
                    return "the guest agent answers" if self.answers() else ""
                written = busy.written if busy and busy.running else -1
                deadline = self.clock() + _GRACE
            if ended(_LOOK):
                return None

    def _sign(self) -> str:
        if self.said:
            return "somebody ran vfio-hooks alive"
        for address in self.addresses:
            now = signs(self.host, address)
            if now.masters and now.messages:
                return f"the guest's driver has {address} (bus mastering and MSI are on)"
            if now.interrupts > self.before[address].interrupts:
                return f"{address} has interrupts"
        return ""

    def state(self) -> str:
        """What the functions show now."""
        return "; ".join(f"{one}: {signs(self.host, one)}" for one in self.addresses)


def busy(vm: str) -> Busy | None:
    try:
        text = run([*VIRSH, "domstats", "--state", "--block", vm], 20)
    except HookError:
        return None
    fields = dict(line.strip().split("=", 1) for line in text.splitlines() if "=" in line)
    written = sum(int(fields[name]) for name in fields if name.endswith(".wr.bytes"))
    return Busy(fields.get("state.state") == _RUNNING, written)


def agent_answers(vm: str) -> bool:
    try:
        run([*VIRSH, "qemu-agent-command", "--timeout", "5", vm, '{"execute":"guest-ping"}'], 20)
    except HookError:
        return False
    return True


def notify(host: Host, text: str) -> None:
    """Show a notification to the people at this host's screens."""
    if find("notify-send") is None:
        return
    for session in graphical(host):
        argv = ["notify-send", "--urgency=critical", "--app-name=vfio-hooks", "vfio-hooks", text]
        with suppress(HookError):
            run(as_user(session.user, environment(host, session), argv), 10)


def end(vm: str, action: str, ended: Ended) -> None:
    """Shut the VM down or destroy it; its `release` brings the host's desktop back. If libvirt is
    just being restarted, it is asked again. Raises HookError."""
    tries = _TRIES if action != "tell" else 0
    for left in range(tries - 1, -1, -1):
        try:
            run([*VIRSH, action, vm], 120)
            return
        except HookError:
            if not left:
                raise
        if ended(_GRACE):
            return


def reasons(vm: str, begin: float, addresses: Sequence[str]) -> list[str]:
    """The known lines in the logs since a time, with their meaning and what to do."""
    try:
        told = explain(since(begin, vm), addresses)
    except HookError:
        return []
    return [f"{one.line.text}: {one.meaning} {one.remedy}" for one in told if one.known]


def losses(record: str, addresses: Sequence[str]) -> str:
    """What a record of the kernel's log says about a lost device; "" for other records."""
    text = record.partition(";")[2].split("\n")[0]
    known, groups = recognise(text)
    if known and known.name in LOST and groups.get("device") in addresses:
        return text
    return ""


def _follow(process: int, addresses: Sequence[str], tell: Callable[[str], None]) -> None:
    """Until the VM has ended, report each device that the kernel says is lost, once."""
    log = os.open(KMSG, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    os.lseek(log, 0, os.SEEK_END)
    told: set[str] = set()
    while True:
        ready, _, _ = select.select([process, log], [], [])
        if process in ready:
            return
        # If a record was overwritten before it was read, the next one is read.
        with suppress(BlockingIOError, BrokenPipeError):
            while record := os.read(log, 8192):
                lost = losses(record.decode(errors="replace"), addresses)
                if lost and lost not in told:
                    told.add(lost)
                    tell(lost)


def main(words: Sequence[str] | None = None) -> int:
    """alive PIDFILE SECONDS ACTION ADDRESS..."""
    parser = argparse.ArgumentParser(prog="alive", description=__doc__)
    parser.add_argument("pidfile", help="where libvirt keeps the number of QEMU's process")
    parser.add_argument("seconds", type=float, help="within which there has to be a sign")
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("address", nargs="+", help="a PCI function, as in 0000:04:00.0")
    arguments = parser.parse_args(words)
    begin, process = time.time(), open_process(arguments.pidfile)
    if process is None:
        return 0  # The VM has ended already.
    vm, host = Path(arguments.pidfile).stem, Host()
    log = SystemdJournal(event="alive", event_of=vm)
    watch = Watch(host, arguments.address, lambda: busy(vm), lambda: agent_answers(vm))

    def say(_number: int, _frame: FrameType | None) -> None:
        watch.said = True

    signal.signal(_SAID, say)

    ended = partial(has_ended, process)

    def warn(text: str) -> None:
        log.warning(f"{vm}: alive: {text}", vm)
        notify(host, f"{vm}: {text}")

    try:
        sign = watch.until_alive(arguments.seconds, ended)
        if sign:
            log.info(f"{vm}: alive: {sign}", vm)
        elif sign is not None:
            warn(f"no sign of life within {arguments.seconds:g} s: {watch.state()}")
            for reason in reasons(vm, begin - _START, arguments.address):
                log.warning(f"{vm}: alive: {reason}", vm)
            if arguments.action != "tell":
                log.warning(f"{vm}: alive: {arguments.action}, as alive_action says", vm)
            end(vm, arguments.action, ended)
        _follow(process, arguments.address, lambda text: warn(f"a device is lost: {text}"))
    except HookError as error:
        warn(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
