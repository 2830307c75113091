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
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType

from vfio_hooks.errors import HookError, Interrupted
from vfio_hooks.host import Host, WritableHost, power_profiles
from vfio_hooks.host.power_profiles import NOT_HELD
from vfio_hooks.log import SystemdJournal
from vfio_hooks.services import STARTS
from vfio_hooks.services.bus import Bus
from vfio_hooks.services.hold import Hold, Memory, Speaker

GRACE = 30.0
"""For how many seconds the profile is held after QEMU's end. libvirt's `release` comes sooner: it
puts the governor back, and then ends this program. The order matters, because intel_pstate does not
let the daemon set another profile while the governor is performance."""
_LOOK = 0.5


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
            partial(power_profiles.tuned, host),
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
