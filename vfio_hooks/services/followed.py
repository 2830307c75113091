"""Finds out which of the USB devices that were plugged in is one that a VM had before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vfio_hooks.domain.devices import UsbDevice
from vfio_hooks.host.usb import Device

Devices = Mapping[int, Device]
"""What is plugged in, by the inode of its folder in sysfs: a device that comes back has a new
inode, even if it has its old number."""


@dataclass
class Followed:
    """What is known about a <hostdev>: its device when that was seen last, and everything else that
    was plugged in then, which is never mistaken for it."""

    wanted: UsbDevice
    inode: int = 0
    was: Device | None = None
    others: Devices = field(default_factory=dict)
    missing: bool = False

    def again(self, came: Devices, *, exactly: bool) -> int:
        """Which of the devices that came is this one; 0 for none.

        If `exactly`, it is the one in the port that is named, or one of its kind in its old place.
        Otherwise it may also be the only one of its kind, unless another one is in the old place:
        then its owner put it there. Makers give several devices the same serial number, so that is
        no proof by itself.
        """
        if self.wanted.path:
            return first(came, lambda one: one.path == self.wanted.path)
        alike = self._alike(came)
        home = first(alike, lambda one: _place(one) == self._place)
        if home or exactly:
            return home
        kind = {one.ids for one in alike.values()}
        others = {_place(one) for one in self.others.values() if one.ids in kind} - {self._place}
        free = [inode for inode, one in alike.items() if _place(one) not in others]
        return free[0] if len(free) == 1 else 0

    def _alike(self, came: Devices) -> Devices:
        """Those of its kind, with its serial number if it has one. If the <hostdev> names a vendor
        and product, any device with these will do."""
        ids = self.was.ids if self.was else self.wanted.ids
        alike = {inode: one for inode, one in came.items() if one.ids == ids}
        if self.was and self.was.serial:
            same = {inode: one for inode, one in alike.items() if one.serial == self.was.serial}
            return same if same or not self.wanted.ids else alike
        return alike

    @property
    def _place(self) -> str:
        return _place(self.was) if self.was else ""


def _place(device: Device) -> str:
    return device.place or device.path


def first(found: Devices, is_it: Callable[[Device], bool]) -> int:
    return next((inode for inode, one in found.items() if is_it(one)), 0)
