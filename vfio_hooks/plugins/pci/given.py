"""What a plan says about the devices that a VM is given, so that a wrong one is noticed."""

from collections.abc import Iterator

from vfio_hooks.domain import Domain, parse
from vfio_hooks.domain.files import DEFINED
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.attached import Attached, attached, only_inputs
from vfio_hooks.host.pci import function
from vfio_hooks.host.pci_traits import names, traits


def told(domain: Domain, host: Host) -> Iterator[str]:
    """A line for each device whose name this machine knows, as lspci shows it, or with which other
    devices go to the VM; and a line if the host has no other keyboard or mouse."""
    found = [one for passed in domain.pci if (one := function(host, passed.address))]
    known = names(one.ids for one in found)
    others = _others(domain, host)
    for one in found:
        with_it = ", ".join(_whose(device, others) for device in attached(host, one.address))
        if with_it or one.ids in known:
            name = f"{traits(host, one.address).kind}, {known.get(one.ids, one.ids)}"
            yield f"{one.address} is {name}" + (f"; with {with_it}" if with_it else "")
    for kind in only_inputs(host, [one.address for one in found]):
        yield f"these are the host's only {kind}, so the host has none until the VM ends"


def _whose(device: Attached, others: dict[str, str]) -> str:
    vm = others.get(device.ids) if device.ids else None
    return f"{device}, which VM {vm} is given" if vm else str(device)


def _others(domain: Domain, host: Host) -> dict[str, str]:
    """The other domains that are given a USB device, by the device's numbers, as far as this user
    may read libvirt's files."""
    found: dict[str, str] = {}
    for name in host.names(DEFINED):
        text = host.maybe(f"{DEFINED}/{name}") if name.endswith(".xml") else None
        try:
            other = parse(text.encode()) if text else None
        except HookError:
            continue
        if other and other.uuid != domain.uuid:
            found |= {usb.ids: other.name for usb in other.usb if usb.ids}
    return found
