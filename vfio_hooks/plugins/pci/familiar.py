"""Which devices a VM was given before, so that another one at the same address is not taken for it.

They are in vm.toml, where `vfio-hooks init` writes them; else the first good start notes them in a
file of the VM's below /var/lib, as a hook writes nothing into /etc.
"""

from collections.abc import Iterable, Mapping

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host.identity import Identity, identity, places
from vfio_hooks.host.sriov import vf_at

FOLDER = "/var/lib/vfio-hooks/devices"


def check(domain: Domain, expected: Mapping[str, str], host: Host) -> None:
    """Raise HookError where a device that the VM is given is none that it had there before."""
    known = {**_noted(domain, host), **expected}
    given = {one.address: identity(host, one.address) for one in domain.pci}
    own_of = {address: Identity.parse(known[address]) for address in given if address in known}
    # What is where it was before is no place that another one has moved to.
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
    """Raise HookError where a device is elsewhere now. Of a virtual function that is yet to be made
    there may be others; and what is nowhere is told by who misses it."""
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
    # What is known of a device may grow with the kernel: once it tells the serial number.
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
