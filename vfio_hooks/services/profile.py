"""Holds a power profile while a VM runs, by the interface of power-profiles-daemon.

tuned-ppd has the same interface. Both hold a profile for a client until the client closes its
connection. So this is a separate program, which systemd runs beside the VM (unit
vfio-hooks-profile-UUID): however it ends, the profile is released.
"""

import argparse
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Protocol

from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.host import Host, WritableHost, power_profiles
from vfio_hooks.host.power_profiles import NAMES, NOT_HELD, UNIT, none
from vfio_hooks.log import SystemdJournal
from vfio_hooks.services import STARTS
from vfio_hooks.services.bus import BUS, UNKNOWN, Bus, Refused, Signal

GRACE = 30.0
"""For how many seconds the profile is held after QEMU's end. libvirt's `release` comes sooner: it
puts the governor back, and then ends this program. The order matters, because intel_pstate does not
let the daemon set another profile while the governor is performance."""
_LOOK = 0.5
_CHOSEN = "chosen"


class Speaker(Protocol):
    """The part of a Bus that is needed here."""

    def fileno(self) -> int: ...

    def call(self, service: str, method: str, *values: str | int) -> int: ...

    def signals(self) -> list[Signal]: ...

    def close(self) -> None: ...


@dataclass
class Hold:
    """A profile that is held for a VM. `chosen` and `choose` are those of power_profiles."""

    bus: Speaker
    profile: str
    vm: str
    warn: Callable[[str], None]
    chosen: Callable[[str], str | None]
    choose: Callable[[str, str], None]
    memory: "Memory"
    cookie: int | None = field(default=None, init=False)
    name: str = field(default="", init=False)

    def take(self) -> None:
        """Hold the profile at whichever daemon there is. Raises HookError."""
        for name in NAMES:
            owner = f"type='signal',sender='{BUS}',member='NameOwnerChanged',arg0='{name}'"
            for rule in (f"type='signal',sender='{name}',member='ProfileReleased'", owner):
                self.bus.call(BUS, "AddMatch", rule)
            self.memory.keep(self._before(name))
            try:
                self._ask(name)
            except Refused as error:
                if error.name not in UNKNOWN:
                    raise
            else:
                return
        raise none()

    def _before(self, name: str) -> str | None:
        """What a person had chosen before any VM held a profile; None if that is not known, because
        another program held one."""
        try:
            return self.memory.known() or self.chosen(name)
        except Interrupted:
            raise
        except HookError:
            return None

    def end(self) -> None:
        """Release the profile. Raises HookError.

        The daemon (seen with 0.12 and 0.30) then goes back to "balanced" if nobody has chosen a
        profile since it was started, although it started with the one chosen before. So that one is
        chosen again here, unless somebody else holds a profile: a choice would end their hold.
        """
        if self.cookie is None:
            return
        self.bus.call(self.name, "ReleaseProfile", self.cookie)
        before = self.memory.known()
        if before is not None and self.chosen(self.name) not in (None, before):
            self.choose(self.name, before)

    def hear(self, heard: Signal) -> None:
        """React to a signal: a person may choose another profile, which ends all holds, and a
        daemon that is restarted, as when its package is upgraded, knows no holds."""
        if heard.name == "ProfileReleased" and heard.values == (self.cookie,):
            self.cookie = None
            self.memory.keep(None)
            self.warn(f"{self.profile} is no longer held: somebody has chosen another profile")
        elif heard.name == "NameOwnerChanged" and self.cookie is not None:
            name, _, owner = heard.values
            if name == self.name and owner:
                self._again()

    def _again(self) -> None:
        # The number of a hold at the old daemon may be another program's at the new one.
        self.cookie = None
        try:
            self._ask(self.name)
        except Interrupted:
            raise
        except HookError as error:
            self.warn(f"{self.profile} is no longer held: {error}")

    def _ask(self, name: str) -> None:
        why = f"VM {self.vm} runs"
        self.cookie = self.bus.call(name, "HoldProfile", self.profile, why, "vfio-hooks")
        self.name = name


@dataclass
class Memory:
    """The profile that a person had chosen before any VM held one. Each VM's program notes it in
    its own `folder`, which systemd removes when the program has ended for good. A program that was
    killed and is started again finds it there, and so does the program of another VM."""

    host: WritableHost
    folder: str

    def known(self) -> str | None:
        """What this VM's program noted, or else another one that still holds a profile."""
        others = [name for name in self.host.names("/run") if name.startswith(UNIT)]
        for folder in (self.folder, *(f"/run/{name}" for name in others)):
            if found := self.host.maybe(f"{folder}/{_CHOSEN}"):
                return found
        return None

    def keep(self, profile: str | None) -> None:
        """Note it for this VM; None: nothing is known. Raises HookError."""
        self.host.store(f"{self.folder}/{_CHOSEN}", profile or "")


def waits(
    pidfile: str, bus: Speaker, starts: float = STARTS, grace: float = GRACE
) -> Iterator[None]:
    """Until some time after the VM's end, yield each time that the bus has something new."""
    deadline = time.monotonic() + starts
    try:
        while (process := _qemu(pidfile)) is None:
            if time.monotonic() > deadline:
                return
            if select.select([bus], [], [], _LOOK)[0]:
                yield
    except ProcessLookupError:
        return
    while process not in select.select([process, bus.fileno()], [], [])[0]:
        yield
    deadline = time.monotonic() + grace
    while (left := deadline - time.monotonic()) > 0:
        if select.select([bus], [], [], left)[0]:
            yield


def _qemu(pidfile: str) -> int | None:
    """A descriptor of QEMU's process; None before libvirt has started it. Raises ProcessLookupError
    if it has ended but its file is there, as when QEMU and libvirt were killed and systemd has
    started this program again."""
    try:
        return os.pidfd_open(int(Host().read(pidfile)))
    except (FileNotFoundError, ValueError):
        return None  # An empty file is just being written.


def ready() -> None:
    """Tell systemd that the profile is held; see sd_notify(3)."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b"READY=1", path.replace("@", "\0", 1))


def main(words: Sequence[str] | None = None) -> int:
    """profile PIDFILE PROFILE"""
    parser = argparse.ArgumentParser(prog="profile", description=__doc__)
    parser.add_argument("pidfile", help="where libvirt keeps the number of QEMU's process")
    parser.add_argument("profile", help="performance or power-saver")
    arguments = parser.parse_args(words)
    vm = Path(arguments.pidfile).stem
    log = SystemdJournal(event="governor", event_of=vm)

    def warn(text: str) -> None:
        log.warning(f"{vm}: governor: {text}", vm)

    host = WritableHost()
    signal.signal(signal.SIGTERM, _stop)
    try:
        bus = Bus()
        hold = Hold(
            bus,
            arguments.profile,
            vm,
            warn,
            partial(power_profiles.chosen, host),
            partial(power_profiles.choose, host),
            Memory(host, os.environ["RUNTIME_DIRECTORY"]),
        )
        hold.take()
    except HookError as error:
        warn(f"the power profile {arguments.profile} cannot be held: {error}")
        return NOT_HELD
    ready()
    try:
        with suppress(Interrupted):
            for _ in waits(arguments.pidfile, bus):
                for heard in bus.signals():
                    hold.hear(heard)
        hold.end()
    except HookError as error:
        warn(str(error))
        return 1
    return 0


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End this program, because systemd asks for it."""
    raise Interrupted("stopped")


if __name__ == "__main__":
    sys.exit(main())
