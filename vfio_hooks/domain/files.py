"""What libvirt's own files say about its domains, for hooks, which must not ask libvirt.

A journal has the name that a VM had when it was started. `virsh domrename` changes the name, but
not the UUID.
"""

from collections.abc import Iterator

from vfio_hooks import RUNNING
from vfio_hooks.domain import identify
from vfio_hooks.host import Host

DEFINED = "/etc/libvirt/qemu"
"""The XML of the domains that are defined."""
QEMU_CONF = "/etc/libvirt/qemu.conf"
PROFILE = "/etc/apparmor.d/abstractions/libvirt-qemu"
"""AppArmor's rules for QEMU, the same for every domain."""
LOCAL_PROFILE = "/etc/apparmor.d/local/abstractions/libvirt-qemu"
"""The file for rules that an administrator adds."""


def names(host: Host) -> dict[str, str]:
    """The names of the domains that are defined or run, by UUID, as far as this user may read
    them."""
    found = [*_identified(host, DEFINED), *_identified(host, RUNNING)]
    return {uuid: name for name, uuid in found}


def runs(host: Host, uuid: str, name: str) -> str | None:
    """The file in which libvirt keeps the state of a domain that runs; None if it does not."""
    file = f"{RUNNING}/{name}.xml"
    by_uuid = {one: f"{RUNNING}/{known}.xml" for known, one in _identified(host, RUNNING)}
    # A file without a UUID belongs to the domain with its name.
    return by_uuid.get(uuid) or (
        file if host.exists(file) and file not in by_uuid.values() else None
    )


def _identified(host: Host, folder: str) -> Iterator[tuple[str, str]]:
    for file in host.names(folder):
        if file.endswith(".xml") and not file.startswith("."):
            known = identify((host.maybe(f"{folder}/{file}") or "").encode())
            if known:
                yield known
