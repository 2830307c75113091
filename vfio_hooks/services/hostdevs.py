"""The <hostdev> elements of USB devices in a running domain, by virsh. The definition stays."""

from tempfile import NamedTemporaryFile
from xml.etree import ElementTree

from vfio_hooks.commands import run
from vfio_hooks.domain.devices import UsbDevice, usb_device
from vfio_hooks.errors import HookError
from vfio_hooks.host.usb import Device
from vfio_hooks.services import VIRSH
from vfio_hooks.wait import until

_LIMIT = 30.0


class Hostdevs:
    """The elements of the domain with a UUID. Each method raises HookError."""

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid

    def all(self) -> list[ElementTree.Element]:
        xml = run([*VIRSH, "dumpxml", self.uuid], _LIMIT)
        try:
            return ElementTree.fromstring(xml).findall("devices/hostdev[@type='usb']")
        except ElementTree.ParseError as error:
            raise HookError(f"virsh dumpxml {self.uuid}: {error}") from None

    def detach(self, hostdev: ElementTree.Element) -> None:
        """Detach a device by its alias, as two absent ones may look the same. Returns when it is
        gone."""
        alias = _alias(hostdev)
        run([*VIRSH, "detach-device-alias", self.uuid, alias, "--live"], _LIMIT)
        if not until(lambda: alias not in map(_alias, self.all()), _LIMIT):
            raise HookError(f"{alias} is still in the domain {_LIMIT:g} s after it was detached")

    def attach(self, hostdev: ElementTree.Element) -> None:
        with NamedTemporaryFile(suffix=".xml") as file:
            file.write(ElementTree.tostring(hostdev))
            file.flush()
            run([*VIRSH, "attach-device", self.uuid, file.name, "--live"], _LIMIT)


def wanted(hostdev: ElementTree.Element) -> UsbDevice:
    """The device that an element names."""
    source = hostdev.find("source")
    return UsbDevice(None, None) if source is None else usb_device(source)


def numbered(hostdev: ElementTree.Element, device: Device) -> ElementTree.Element:
    """A copy of an element for the device as it is plugged in now, in the same port of the guest.
    One that names a port of the host stays as it is."""
    new = ElementTree.fromstring(ElementTree.tostring(hostdev))
    source, alias = new.find("source"), new.find("alias")
    if alias is not None:
        new.remove(alias)
    if source is None or wanted(hostdev).path:
        return new
    source.attrib.pop("missing", None)
    for old in source.findall("address"):
        source.remove(old)
    number = {"bus": str(device.bus), "device": str(device.number)}
    source.append(ElementTree.Element("address", number))
    return new


def _alias(hostdev: ElementTree.Element) -> str:
    alias = hostdev.find("alias")
    return "" if alias is None else alias.get("name", "")
