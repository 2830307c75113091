"""What a running QEMU has now: libvirt calls no hook when something is plugged in or pinned."""

from __future__ import annotations

import os
import re

from vfio_hooks.host.cgroup import ROOT, V1
from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.host.pci import DEVICES, GROUPS, is_shown_to_vfio, is_vfios

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

_GROUP = re.compile(r"/dev/vfio/(\d+)")
_DEVICE = re.compile(r"/dev/vfio/devices/(vfio\d+)")


def functions(host: Host, pid: int) -> set[str]:
    """The PCI functions that it has open: all of an IOMMU group, or single ones with iommufd."""
    found: set[str] = set()
    for path in _opened(host, pid):
        if group := _GROUP.fullmatch(path):
            found.update(host.names(f"{GROUPS}/{group[1]}/devices"))
        elif device := _DEVICE.fullmatch(path):
            found.add(host.link(f"/sys/class/vfio-dev/{device[1]}/device") or "")
    return {one for one in found if _is_vfios(host, one)}


def vcpu_pins(host: Host, pid: int) -> dict[int, CpuSet]:
    """The CPUs to which each of its vCPUs is pinned, by the vCPU's number, from the vCPUs' control
    groups. A vCPU that is not pinned is left out, and so are all if there are no groups."""
    scope = _scope(host, pid)
    names = (re.fullmatch(r"vcpu(\d+)", name) for name in host.names(scope) if scope)
    pins = {
        int(name[1]): parse_list(host.maybe(f"{scope}/{name[0]}/cpuset.cpus") or "")
        for name in names
        if name
    }
    return {number: cpus for number, cpus in sorted(pins.items()) if cpus}


def _opened(host: Host, pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    for name in host.names(folder):
        try:
            yield os.readlink(host.path(f"{folder}/{name}"))
        except OSError:
            continue  # It has been closed.


def _is_vfios(host: Host, address: str) -> bool:
    driver = host.link(f"{DEVICES}/{address}/driver")
    return is_vfios(driver) or is_shown_to_vfio(host, address)


def _scope(host: Host, pid: int) -> str:
    """The folder in which libvirt has the groups of its threads; "" if there is none."""
    for line in host.lines(f"/proc/{pid}/cgroup"):
        _, controllers, path = line.split(":", 2)
        around, found, _ = path.partition("/libvirt/")
        if found and (not controllers or "cpuset" in controllers.split(",")):
            return f"{V1 if controllers else ROOT}{around}/libvirt"
    return ""
