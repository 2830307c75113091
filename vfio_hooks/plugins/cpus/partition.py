"""A running VM's vCPUs in partitions of their own, which the scheduler puts nothing else on.

libvirt has each vCPU in a group, machine.slice/machine-qemu…scope/libvirt/vcpu0. Since Linux 6.7
such a group can be a partition wherever it is, when all groups around it leave it its CPUs.
https://docs.kernel.org/admin-guide/cgroup-v2.html, "cpuset.cpus.exclusive"
"""

from __future__ import annotations

from itertools import combinations

from vfio_hooks.errors import HookError
from vfio_hooks.host.boot import release
from vfio_hooks.host.cgroup import MACHINES, ROOT, layout
from vfio_hooks.host.cpulist import format_list
from vfio_hooks.knobs.file import CpuMask
from vfio_hooks.knobs.partition import MEMBER, Partition
from vfio_hooks.services import pidfile
from vfio_hooks.sharing import Include, Override
from vfio_hooks.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.domain import Domain
    from vfio_hooks.host import Host

_FIRST = (6, 7)
_HINT = "remove partition from [cpus]"


def check(domain: Domain, host: Host) -> None:
    """Raise HookError, before the VM starts, if no partition can be made for it."""
    if layout(host) not in ("systemd", "v2"):
        raise HookError("partition needs cgroup v2, which this host does not have", _HINT)
    if release(host) < _FIRST:
        raise HookError(
            "partition needs Linux 6.7 or newer: an older kernel cannot make a partition "
            "of vCPUs alone",
            _HINT,
        )
    for name in MACHINES:
        _refuse_within(name, host)
    for (one, cpus), (other, others) in combinations(sorted(domain.vcpu_pins.items()), 2):
        if shared := cpus & others:
            raise HookError(
                f"vCPUs {one} and {other} of domain {domain.name} are both pinned to CPUs "
                f"{format_list(shared)}, which can only be in one partition",
                f"pin each vCPU to CPUs of its own (virsh edit), or {_HINT}",
            )


def steps(kind: str, domain: Domain, host: Host) -> Iterator[Step]:
    """The steps that make the partitions, from the outermost group to those of the vCPUs. A VM that
    does not run has no groups, so there are no steps, nor any for a vCPU that is not plugged in.
    `kind` is "root" or "isolated"."""
    pid = host.maybe(pidfile(domain.name))
    if pid is None:
        return
    _, _, path = (host.maybe(f"/proc/{pid}/cgroup") or "").partition("0::/")
    around, found, _ = path.partition("/libvirt/")
    if not found:
        raise HookError(
            f"libvirt keeps domain {domain.name} in /{path}, where vCPUs have no groups",
            _HINT,
        )
    cpus = format_list(domain.pinned)
    *outer, own = around.split("/")
    for depth in range(len(outer)):
        _refuse_within("/".join(outer[: depth + 1]), host)
        # Other VMs are in these, too.
        yield Step("cpus", _exclusive("/".join(outer[: depth + 1])), Include(cpus))
    scope = "/".join((*outer, own))
    for group in (scope, f"{scope}/libvirt"):
        yield Step("cpus", _exclusive(group), Override(cpus))
    for number, pin in sorted(domain.vcpu_pins.items()):
        group = f"{scope}/libvirt/vcpu{number}"
        if not host.exists(f"{ROOT}/{group}"):
            continue  # It can be plugged in, and is not yet.
        yield Step("cpus", _exclusive(group), Override(format_list(pin)))
        yield Step("cpus", Partition(f"{ROOT}/{group}"), Override(kind))


def _refuse_within(group: str, host: Host) -> None:
    """Raise HookError for a group that is itself a partition: the groups of vCPUs, which are not
    directly below it, cannot be partitions inside one."""
    partition = Partition(f"{ROOT}/{group}")
    kind = partition.read(host) if host.exists(partition.key) else MEMBER
    if kind != MEMBER:
        raise HookError(
            f"{group} is itself a partition ({kind}), and the kernel makes no partitions "
            f"of vCPUs inside it",
            f"remove CPUSetPartition= from {group}, or {_HINT}",
        )


def _exclusive(group: str) -> CpuMask:
    return CpuMask(f"{ROOT}/{group}/cpuset.cpus.exclusive")
