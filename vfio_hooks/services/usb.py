"""Gives USB devices to a VM again when they come back.

A device that is unplugged, or that enumerates anew, has another number when it is back. QEMU has
lost it, and the domain keeps a <hostdev> with the old number. This program, which systemd runs
beside the VM (unit vfio-hooks-usb-UUID), listens to udev, and puts the device's new number into the
running domain. The domain's definition stays as it is.
"""

import argparse
import os
import select
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from vfio_hooks.domain.devices import UsbDevice
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, uevents
from vfio_hooks.host.losses import lost_below
from vfio_hooks.host.usb import DEVICES, Device, devices
from vfio_hooks.log import SystemdJournal
from vfio_hooks.services import has_ended, open_process
from vfio_hooks.services.followed import Devices, Followed, first
from vfio_hooks.services.hostdevs import Hostdevs, numbered, wanted

AGAIN = 1.0
"""Seconds until the next look while a device is missing that may be one of those that came."""
TRIES = 10
"""How many such looks there are after a device has come or gone."""
SECONDS = 2.0
"""Seconds between two looks if udev cannot be heard."""

Wait = Callable[[float | None], bool]
"""Waits until a USB device may have come or gone, so many seconds at most, and says whether the VM
has ended."""


@dataclass
class Follower:
    """The USB devices of one VM. `named` is the one that is followed, by vendor and product or by
    its place; "" for all. `losses` says what the host would lose with a device."""

    domain: Hostdevs
    there: Callable[[], Devices]
    losses: Callable[[Device], list[str]]
    tell: Callable[[str], None]
    warn: Callable[[str], None]
    named: str = ""
    twins: Collection[str] = ()
    """The paths of devices like the VM's that the host had when the VM started."""
    missing: bool = True
    """Whether one of the VM's devices was not there at the last look."""
    last: Devices | None = None
    """What was plugged in at the last look."""
    before: Devices | None = None
    """What was plugged in when libvirt last answered."""
    followed: dict[str, Followed] = field(default_factory=dict)
    detached: list[Element] = field(default_factory=list)
    """Elements that are no longer in the domain, and could not be attached again yet."""
    warned: set[str] = field(default_factory=set)

    def look(self) -> bool:
        """Look once, and give what has come back to the VM. Returns whether a device has come or
        gone since the last look."""
        there = self.there()
        changed = self.last is None or there.keys() != self.last.keys()
        self.last = there
        if not (changed or self.missing):
            return False
        if changed:
            self.warned.clear()
        self.missing = True
        try:
            lost = self._lost(there, self._before(there))
        except HookError as error:
            self._warn(str(error))
            return changed
        for hostdev in list(lost):
            self._replace(hostdev, lost, there, exactly=True)
        # A device that is only of the same kind has to wait: others may still come back to their
        # places.
        for hostdev in [] if changed else list(lost):
            self._replace(hostdev, lost, there, exactly=False)
        self.missing, self.before = bool(lost), there
        return changed

    def _before(self, there: Devices) -> Devices:
        """The devices that may have been plugged in all the time. One of the VM's devices may have
        come back even before the first look."""
        if self.before is not None:
            return self.before
        return {inode: one for inode, one in there.items() if one.path in self.twins}

    def _lost(self, there: Devices, before: Devices) -> list[Element]:
        """The elements whose devices are not plugged in."""
        elements = [*self.domain.all(), *self.detached]
        known, self.followed, lost = self.followed, {}, []
        for hostdev in elements:
            names = wanted(hostdev)
            now = known.get(str(names))
            if now is None:
                inode = first(there, partial(_is, names)) or first(before, partial(_is, names))
                now = Followed(names, inode, there.get(inode, before.get(inode)), before)
            self.followed[str(names)] = now
            if now.inode in there and hostdev not in self.detached:
                now.others = there
            elif now.was is None or self._is_named(now.was):
                lost.append(hostdev)
                if not now.missing:
                    self.tell(f"{now.was or names} is not plugged in")
                now.missing = True
        return lost

    def _replace(
        self, hostdev: Element, lost: list[Element], there: Devices, *, exactly: bool
    ) -> None:
        """Replace an element by one for the device that has come back, which is then not lost any
        more."""
        followed = self.followed[str(wanted(hostdev))]
        given = {one.inode for one in self.followed.values()}
        came = {
            inode: one for inode, one in there.items() if inode not in given and self._is_named(one)
        }
        if inode := followed.again(came, exactly=exactly):
            device = there[inode]
            try:
                new = self._give(hostdev, device)
            except HookError as error:
                self._warn(f"{device} cannot be given to the VM: {error}")
                return
            lost.remove(hostdev)
            names = wanted(new)
            self.followed[str(names)] = Followed(names, inode, device, there)
            self.tell(f"{device} is back, and the VM has it")

    def _give(self, hostdev: Element, device: Device) -> Element:
        """Attach a device, in the place of an element. Raises HookError."""
        if losses := self.losses(device):
            raise HookError(
                f"the host would lose what it uses now: {', '.join(losses)}",
                "end that, and plug it in again",
            )
        new = numbered(hostdev, device)
        if hostdev not in self.detached:
            self.domain.detach(hostdev)
            self.detached.append(hostdev)
        self.domain.attach(new)
        self.detached.remove(hostdev)
        return new

    def _is_named(self, device: Device) -> bool:
        return self.named in ("", device.ids, device.path, device.place)

    def _warn(self, text: str) -> None:
        if text not in self.warned:
            self.warned.add(text)
            self.warn(text)


def _is(names: UsbDevice, device: Device) -> bool:
    """Whether a <hostdev> of a running domain, which has a number or a port, is this device."""
    if names.path:
        return names.path == device.path
    return names.address == (device.bus, device.number) and names.ids in (None, device.ids)


def follow(follower: Follower, wait: Wait) -> None:
    """Follow the VM's devices until the VM has ended."""
    tries = TRIES
    while True:
        tries = TRIES if follower.look() else tries - 1
        if wait(AGAIN if follower.missing and tries > 0 else None):
            return


def plugged_in(host: Host) -> Devices:
    found = {}
    for device in devices(host):
        # A device that is gone again is not there.
        with suppress(OSError):
            found[os.stat(host.path(f"{DEVICES}/{device.path}")).st_ino] = device
    return found


def main(words: Sequence[str] | None = None) -> int:
    """usb UUID PIDFILE [--device=DEVICE] [--twin=PATH ...]"""
    parser = argparse.ArgumentParser(prog="usb", description=__doc__)
    parser.add_argument("uuid", help="the VM's")
    parser.add_argument("pidfile", help="where libvirt keeps the number of QEMU's process")
    parser.add_argument("--device", default="", help="the only one that is followed")
    parser.add_argument("--twin", action="append", default=[], help="one of the host, as in 1-4")
    arguments = parser.parse_args(words)
    process, heard = open_process(arguments.pidfile), uevents.listen()
    if process is None:
        return 0  # The VM has ended already.
    host, vm = Host(), Path(arguments.pidfile).stem
    log = SystemdJournal(event="usb", event_of=vm)
    follower = Follower(
        Hostdevs(arguments.uuid),
        lambda: plugged_in(host),
        lambda device: lost_below(host, f"{DEVICES}/{device.path}"),
        lambda text: log.info(f"{vm}: usb: {text}", vm),
        lambda text: log.warning(f"{vm}: usb: {text}", vm),
        arguments.device,
        arguments.twin,
    )

    def wait(seconds: float | None) -> bool:
        if heard is None:
            return has_ended(process, seconds or SECONDS)
        while True:
            ready, _, _ = select.select([process, heard.fileno()], [], [], seconds)
            if process in ready or not ready or uevents.of_usb(heard):
                return process in ready

    follow(follower, wait)
    return 0


if __name__ == "__main__":
    sys.exit(main())
