"""USB devices of the host: taken from their drivers, or given to others, while the VM runs.

There may be several tables. They are carried out in their order, and undone in reverse:

    [[usb]]
    device = "046d:c52b"

    [[usb]]
    device = "1-4:1.0"
    driver = "usb-storage"

QEMU takes a device from its drivers by itself when it opens the device for the guest, and gives it
back. A table does what QEMU does not do: the device is taken before the VM starts, stays without a
driver while the guest has not opened it, and comes back if QEMU was killed. It can also be about
devices that are not given to any guest. A table without `device` is about all USB devices in the
domain's XML.

Afterwards every interface gets its former driver back, even if the device was unplugged and plugged
in again, in the same port or another. If a device is gone, the log says so.

While the VM runs, a device that is plugged in again has a new number, so it stays with the host.
With `follow`, it goes to the VM again.
"""

from collections.abc import Iterator

from vfio_hooks.domain import Domain
from vfio_hooks.domain.devices import UsbDevice
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.losses import lost_below
from vfio_hooks.host.modules import is_known
from vfio_hooks.host.usb import (
    DEVICES,
    DRIVERS,
    HUB_CLASS,
    ID_PATH,
    IDS,
    PATH,
    Device,
    devices,
    interfaces,
)
from vfio_hooks.knobs.base import NO_DRIVER
from vfio_hooks.knobs.usb_driver import UsbDriver
from vfio_hooks.record import record
from vfio_hooks.services import argv, pidfile
from vfio_hooks.services.service import service
from vfio_hooks.sharing import Exclusive, Run
from vfio_hooks.steps import Step

MULTIPLE = True


@record
class Options:
    device: str | None = None
    """The device: a vendor and product number as lsusb shows them ("046d:c52b"), which stands for
    all devices that have it; a port, "1-4", as in /sys/bus/usb/devices; or one interface of the
    device there, "1-4:1.0". The first number of a port is that of its bus, which may be another one
    after the next boot. "pci-0000:0b:00.3-usb-0:4" always is the same port: `udevadm info
    /sys/bus/usb/devices/1-4` shows it as ID_PATH. If it is not set, all USB devices of the domain
    are meant."""
    driver: str = "none"
    """The driver that the interfaces are bound to, or "none"."""
    follow: bool = False
    """With true, those of these devices that the domain is given go to the running VM again when
    they come back: after they were unplugged, switched off, or found anew by the kernel, as when
    their firmware is updated. A small service (vfio-hooks-usb-UUID) sees to that. It replaces the
    <hostdev> of the running domain; what you have defined stays as it is. A device is known again
    by its port. In another port, it has to be the only new one with its vendor, product and serial
    number, so that a device of the host is never taken for it. If the <source> names a port
    (<address bus= port=>, libvirt 12), whatever is plugged in there goes to the VM. Until the VM
    has it, for a moment, the host's driver has the device. One that the host uses by then, such as
    a mounted disk, stays with the host, and the log says so. A device with startupPolicy='optional'
    that was not there at the start follows as well."""

    def __post_init__(self) -> None:
        if self.device is not None and not (
            IDS.fullmatch(self.device.lower())
            or PATH.fullmatch(self.device)
            or ID_PATH.fullmatch(self.device)
        ):
            raise ValueError(
                'device must be like "046d:c52b", "1-4", "1-4:1.0" or "pci-0000:0b:00.3-usb-0:4"'
            )
        if not self.driver or set("/.") & set(self.driver):
            raise ValueError('driver must be the name of a driver, such as "usbhid", or "none"')
        if self.follow and self.device and _interface(self.device):
            raise ValueError("follow is for whole devices, and device names an interface of one")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op == "started" and options.follow:
        yield _followed(domain, options.device, devices(host))
    if event.op != "prepare":
        return
    wanted = _Place.parse(options.device or "")
    only = wanted.interface if wanted else ""
    value = NO_DRIVER if options.driver == "none" else options.driver
    if value != NO_DRIVER and not host.exists(f"{DRIVERS}/{value}") and not is_known(host, value):
        raise HookError(f"{value!r} is not a USB driver of this kernel")
    chosen = _chosen(domain, options.device, host)
    if options.follow and options.device and not _are_given(domain, chosen):
        raise HookError(
            f"domain {domain.name} is not given {options.device}, so it cannot follow",
            "add it to the domain as a <hostdev>, or remove follow from [[usb]]",
        )
    for device in chosen:
        there = interfaces(host, device)
        if only and only not in there:
            raise HookError(f"{device} has no interface {only}", f"there are: {', '.join(there)}")
        for interface in [only] if only else there:
            _check(host, device, interface)
            knob = UsbDriver(device.path, interface, device.ids, device.serial, place=device.place)
            yield Step("usb", knob, Exclusive(value))


@record
class _Place:
    """Where a device is, in either notation, and the interface of it that is meant ("": all)."""

    path: str
    interface: str

    @classmethod
    def parse(cls, device: str) -> "_Place | None":
        """What the key `device` says; None if that is a vendor and product number."""
        if found := ID_PATH.fullmatch(device):
            return cls(found[1] + found[2], found[3] or "")
        path, _, interface = device.partition(":")
        return cls(path, interface) if "-" in device else None


def _interface(device: str) -> str:
    place = _Place.parse(device)
    return place.interface if place else ""


def _followed(domain: Domain, device: str | None, there: list[Device]) -> Step:
    place = _Place.parse(device or "")
    named = place.path if place else (device or "").lower()
    given = [one for one in there if any(_is(wanted, one) for wanted in domain.usb)]
    kinds = {one.ids for one in domain.usb} | {one.ids for one in given}
    twins = [one.path for one in there if one.ids in kinds and one not in given]
    options = [f"--device={named}"] * bool(named) + [f"--twin={path}" for path in twins]
    knob = service(
        "-".join(filter(None, ("vfio-hooks-usb", domain.uuid, named))),
        f"USB devices of VM {domain.name}",
        argv("vfio_hooks.services.usb", domain.uuid, pidfile(domain.name), *options),
        f"gives {named or 'USB devices'} to the VM again when they come back",
    )
    return Step("usb", knob, Run(), until="stopped", required=False)


def _chosen(domain: Domain, named: str | None, host: Host) -> list[Device]:
    there = devices(host)
    if named is None:
        found = [device for wanted in domain.usb for device in _of_domain(wanted, there)]
        if not domain.usb:
            raise HookError(
                f"domain {domain.name} is given no USB device",
                'name one with device in [[usb]], such as device = "046d:c52b"',
            )
        return list(dict.fromkeys(found))
    place = _Place.parse(named)
    if place:
        found = [device for device in there if place.path in (device.path, device.place)]
    else:
        found = [device for device in there if device.ids == named.lower()]
    if not found:
        raise HookError(
            f"{named} is not plugged in",
            "lsusb shows what is plugged in, and lsusb -t where; or set required = false in "
            "[[usb]]",
        )
    return found


def _of_domain(wanted: UsbDevice, there: list[Device]) -> list[Device]:
    found = [device for device in there if _is(wanted, device)]
    if not found and not wanted.optional:
        raise HookError(
            f"{wanted}, which the domain is given, is not plugged in",
            "plug it in, or set startupPolicy='optional' in its <source>",
        )
    return found


def _is(wanted: UsbDevice, device: Device) -> bool:
    return (
        wanted.ids in (None, device.ids)
        and wanted.address in (None, (device.bus, device.number))
        and wanted.path in (None, device.path)
    )


def _are_given(domain: Domain, chosen: list[Device]) -> bool:
    return any(_is(wanted, device) for wanted in domain.usb for device in chosen)


def _check(host: Host, device: Device, interface: str) -> None:
    folder = f"{DEVICES}/{device.path}:{interface}"
    if host.maybe(f"{folder}/bInterfaceClass") == HUB_CLASS:
        raise HookError(
            f"{device} is a hub, so everything that is plugged into it would go",
            "name the devices that are plugged into it instead",
        )
    if lost := lost_below(host, folder):
        raise HookError(
            f"{device}: the host would lose what it needs: {', '.join(lost)}",
            "move that elsewhere first",
        )
