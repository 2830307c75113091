"""Which devices a VM was given before, so that it does not get another one at the same address.

They are in vm.toml if `vfio-hooks init` or the user wrote them there. Otherwise the first good
start notes them in a file for the VM below /var/lib, because a hook writes nothing into /etc.
"""

from collections.abc import Iterable, Mapping

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.identity import Identity, identity, places
from vfio_hooks.host.sriov import vf_at

FOLDER = "/var/lib/vfio-hooks/devices"


def check(domain: Domain, expected: Mapping[str, str], host: Host) -> None:
    """Raise HookError if a device that the VM is given is not the one that it had at this address
    before."""
    known = {**_noted(domain, host), **expected}
    given = {one.address: identity(host, one.address) for one in domain.pci}
    own_of = {address: Identity.parse(known[address]) for address in given if address in known}
    # A device that is still where it was cannot be one that has moved there.
    home = [at for at, own in own_of.items() if (now := given[at]) and own.may_be(now)]
    for address, own in own_of.items():
        if address in home:
            continue
        now, moved = given[address], [at for at in places(host, own) if at not in home]
        if now is None:
            _refuse_absent(address, moved, host)
            continue
        where = f"is {' or '.join(moved)} now" if moved else "is no longer on this host"
        forget = "expected in [pci]" if address in expected else _file(domain)
        raise HookError(
            f"{address} is not the same device as before: it is a "
            f"{_kind(host, address)} ({now}); the one that {domain.name} had there "
            f"({own}) {where}",
            "correct the address in the domain (virsh edit); if it should have this device, "
            f"remove the line from {forget}",
        )


def _refuse_absent(address: str, moved: list[str], host: Host) -> None:
    """Raise HookError if a device is at another address now. This does not count for a virtual
    function that is still to be made, as others are like it. For a device that is not found at all,
    whatever needs it raises the error."""
    if moved and vf_at(host, address) is None:
        raise HookError(
            f"{address}: there is no longer a device; the one that was there is "
            f"{' or '.join(moved)} now",
            "correct the address in the domain (virsh edit)",
        )


def note(domain: Domain, expected: Iterable[str], host: WritableHost) -> None:
    """Note the VM's devices that vm.toml does not name, after a start with them. Raises OSError."""
    noted = _noted(domain, host)
    now = {
        passed.address: str(there)
        for passed in domain.pci
        if passed.address not in expected and (there := identity(host, passed.address))
    }
    # A newer kernel may know more about a device, such as its serial number.
    if {**noted, **now} != noted:
        lines = (f"{address} {text}\n" for address, text in sorted({**noted, **now}.items()))
        host.keep(_file(domain), "".join(lines))


def _file(domain: Domain) -> str:
    return f"{FOLDER}/{domain.uuid}"


def _noted(domain: Domain, host: Host) -> dict[str, str]:
    pairs = (line.partition(" ") for line in host.lines(_file(domain)))
    return {address: text for address, _, text in pairs if text}


def _kind(host: Host, address: str) -> str:
    from vfio_hooks.host.pci_traits import traits

    driver = host.link(f"/sys/bus/pci/devices/{address}/driver")
    return f"{traits(host, address).kind} device" + (f" with the driver {driver}" if driver else "")
