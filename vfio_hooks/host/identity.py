"""What a PCI function is, whatever its address. When a card is added or a firmware setting changes,
addresses move, and another device is at the address in a VM's XML.

Documentation/ABI/testing/sysfs-bus-pci; the serial number is there since Linux 7.2.
"""

from vfio_hooks.host import Host
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.record import record


@record
class Identity:
    """Vendor and device, "1002:73bf", those of the board, "1da2:e438", and a serial number. The
    last two are "" if they are not known."""

    ids: str
    board: str = ""
    serial: str = ""

    def __str__(self) -> str:
        board = self.board or ("-" if self.serial else "")
        return " ".join(filter(None, (self.ids, board, self.serial)))

    @classmethod
    def parse(cls, text: str) -> "Identity":
        """The identity that was printed as `text`."""
        ids, board, serial = (*text.lower().split(), "", "", "")[:3]
        return cls(ids, "" if board == "-" else board, serial)

    def may_be(self, other: "Identity") -> bool:
        """Whether both can be the same device, by what is known of both."""
        pairs = ((self.board, other.board), (self.serial, other.serial))
        return self.ids == other.ids and all(
            one == another or not one or not another for one, another in pairs
        )


def identity(host: Host, address: str) -> Identity | None:
    """What is at an address; None if nothing is."""
    folder = f"{DEVICES}/{address}"
    vendor, device, subvendor, subdevice = (
        (host.maybe(f"{folder}/{name}") or "").removeprefix("0x")
        for name in ("vendor", "device", "subsystem_vendor", "subsystem_device")
    )
    if not vendor:
        return None
    # Virtual functions and many older devices have only zeros there.
    board = f"{subvendor}:{subdevice}" if subvendor.strip("0") else ""
    serial = (host.maybe(f"{folder}/serial_number") or "").lower()
    return Identity(f"{vendor}:{device}", board, serial if serial.strip("0-") else "")


def places(host: Host, wanted: Identity) -> list[str]:
    """The addresses at which the device is now; if none fits exactly, those where it may be."""
    found = {address: identity(host, address) for address in host.names(DEVICES)}
    alike = [address for address, there in found.items() if there and wanted.may_be(there)]
    return [address for address in alike if found[address] == wanted] or alike
