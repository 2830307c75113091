"""SR-IOV: physical functions (PFs), their virtual functions (VFs), and what uses these.

https://docs.kernel.org/PCI/pci-iov-howto.html and Documentation/ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import re

from vfio_hooks.host.in_use import holders
from vfio_hooks.host.network import uses
from vfio_hooks.host.pci import ADDRESS, DEVICES, is_for_guests
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host


@record
class Vf:
    """A VF by its PF's address, "0000:08:00.0", and its number there, from 0."""

    pf: str
    number: int

    def __str__(self) -> str:
        return f"VF {self.number} of {self.pf}"


def count_file(pf: str) -> str:
    """The file that shows and sets the number of a PF's VFs."""
    return f"{DEVICES}/{pf}/sriov_numvfs"


def find_pf(host: Host, name: str) -> str | None:
    """The address of the PF with this address or network interface, or None."""
    address = name if re.fullmatch(ADDRESS, name) else host.link(f"/sys/class/net/{name}/device")
    return address if address and host.exists(count_file(address)) else None


def interface(host: Host, pf: str) -> str | None:
    """The PF's own network interface, or None; the representors of VFs are in the same folder."""
    folder = f"{DEVICES}/{pf}/net"
    for name in host.names(folder):
        if "vf" not in (host.maybe(f"{folder}/{name}/phys_port_name") or ""):
            return name
    return None


def vfs(host: Host, pf: str) -> dict[int, str]:
    """The addresses of a PF's VFs, by number."""
    names = (name for name in host.names(f"{DEVICES}/{pf}") if re.fullmatch(r"virtfn\d+", name))
    found = ((int(name[6:]), host.link(f"{DEVICES}/{pf}/{name}")) for name in names)
    return {number: address for number, address in sorted(found) if address}


def pf_of(host: Host, address: str) -> str | None:
    """The address of a VF's PF; None if this is not a VF."""
    return host.link(f"{DEVICES}/{address}/physfn")


def vf_at(host: Host, address: str) -> Vf | None:
    """The VF that is, or would be, at an address; None if that is not a VF's."""
    pf = pf_of(host, address)
    if pf is not None:
        numbers = (number for number, at in vfs(host, pf).items() if at == address)
        return next((Vf(pf, number) for number in numbers), None)
    return None if host.exists(f"{DEVICES}/{address}") else _vf_to_come(host, address)


def vfs_to_come(host: Host, pf: str, count: int) -> dict[int, str]:
    """The addresses that so many VFs of a PF would have, by number; none if the PF does not show
    its First VF Offset and VF Stride."""
    offset, stride = (
        int(host.maybe(f"{DEVICES}/{pf}/sriov_{name}") or 0) for name in ("offset", "stride")
    )
    own = _routing_id(pf)
    if not (own and offset and stride):
        return {}
    return {number: _address(own[0], own[1] + offset + number * stride) for number in range(count)}


def _vf_to_come(host: Host, address: str) -> Vf | None:
    """The VF that an address will have, by the PCI specification's First VF Offset and VF Stride.
    (Some cards change these with the number of VFs; then nothing is at that address.)"""
    wanted = _routing_id(address)
    for pf in host.names(DEVICES) if wanted else ():
        offset, stride, total = (
            int(host.maybe(f"{DEVICES}/{pf}/sriov_{name}") or 0)
            for name in ("offset", "stride", "totalvfs")
        )
        own = _routing_id(pf)
        if not (own and wanted and total) or own[0] != wanted[0]:
            continue
        number, rest = divmod(wanted[1] - own[1] - offset, max(stride, 1))
        if not rest and 0 <= number < total:
            return Vf(pf, number)
    return None


def _routing_id(address: str) -> tuple[str, int] | None:
    """A function's PCI domain, and its bus, slot and function as one number."""
    if not re.fullmatch(ADDRESS, address):
        return None
    domain, bus, slot, function = re.split("[:.]", address)
    return domain, int(bus, 16) << 8 | int(slot, 16) << 3 | int(function)


def _address(domain: str, routing_id: int) -> str:
    place = f"{routing_id >> 8:02x}:{routing_id >> 3 & 31:02x}.{routing_id & 7}"
    return f"{domain}:{place}"


def users(host: Host, pf: str) -> Iterator[str]:
    """What would be cut off without the PF's VFs, as clauses. An interface that is merely up does
    not count, because NetworkManager puts every new one up."""
    for number, address in vfs(host, pf).items():
        driver = host.link(f"{DEVICES}/{address}/driver")
        if is_for_guests(driver):
            by = ", ".join(map(str, holders(host, address)))
            yield f"VF {number} ({address}) is on {driver}{f': {by}' if by else ''}"
        for name in host.names(f"{DEVICES}/{address}/net"):
            for use in uses(host, name):
                yield f"VF {number} ({address}, {driver}): {use}"
