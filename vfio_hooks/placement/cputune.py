"""A placement as a domain's XML: <cputune>, and the cores that the guest sees.

https://libvirt.org/formatdomain.html#cpu-tuning. Comments and layout stay as they are.
"""

from typing import TYPE_CHECKING

from vfio_hooks.domain.devices import idle_vcpus, iothread_ids
from vfio_hooks.domain.editing import add, reach, remove
from vfio_hooks.domain.text import editable, written
from vfio_hooks.errors import HookError
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.placement.choice import Placement

if TYPE_CHECKING:
    from lxml.etree import _Element


def repin(xml: bytes, chosen: Placement) -> bytes:
    """The XML with the pins of a placement in place of its own. Raises HookError if it is not a
    domain's XML, or has numbers that cannot be read."""
    root = editable(xml)
    try:
        return _repinned(root, xml, chosen)
    except ValueError as error:
        raise HookError(
            f"the pins cannot be written into the domain XML: {error}",
            "correct it: virsh edit, then try again",
        ) from None


def _repinned(root: "_Element", xml: bytes, chosen: Placement) -> bytes:
    tune = reach(root, "cputune")
    for tag in ("vcpupin", "emulatorpin", "iothreadpin"):
        for old in tune.findall(tag):
            remove(old)
    idle = idle_vcpus(root, _count(root))
    running = (vcpu for vcpu in range(_count(root)) if vcpu not in idle)
    for vcpu, cpu in zip(running, chosen.vcpus, strict=True):
        _pin(tune, "vcpupin", vcpu=str(vcpu), cpuset=str(cpu))
    _pin(tune, "emulatorpin", cpuset=format_list(chosen.emulator))
    for number, cpus in zip(iothread_ids(root), chosen.iothreads, strict=True):
        _pin(tune, "iothreadpin", iothread=str(number), cpuset=format_list(cpus))
    vcpu_element = root.find("vcpu")
    if vcpu_element is not None and vcpu_element.get("placement") == "auto":
        # Otherwise numad would place them.
        vcpu_element.set("placement", "static")
    _tell_cores(root, chosen)
    return written(root, xml)


def _count(root: "_Element") -> int:
    return int(root.findtext("vcpu") or 1)


def _pin(tune: "_Element", tag: str, **attributes: str) -> None:
    pin = add(tune, tag)
    for name, value in attributes.items():
        pin.set(name, value)


def _tell_cores(root: "_Element", chosen: Placement) -> None:
    """Show the guest which vCPUs share a core, unless it has no <cpu>."""
    cpu = root.find("cpu")
    if cpu is None:
        return
    if cpu.find("numa") is not None:
        _tell_threads(cpu, _count(root), chosen.threads)
        return
    if (cpu.find("topology") is None and chosen.threads == 1) or _count(root) % chosen.threads:
        return
    topology = reach(cpu, "topology")
    topology.set("sockets", "1")
    for name in ("dies", "clusters"):
        if topology.get(name):
            topology.set(name, "1")
    # vCPUs that are off have cores as well.
    topology.set("cores", str(_count(root) // chosen.threads))
    topology.set("threads", str(chosen.threads))


def _tell_threads(cpu: "_Element", vcpus: int, threads: int) -> None:
    """The same for a guest with NUMA nodes of its own, which depend on its sockets and dies, so
    these stay. If a core would be in two nodes, nothing is changed."""
    topology = cpu.find("topology")
    if topology is None:
        return
    in_die = int(topology.get("cores", "1")) * int(topology.get("threads", "1"))
    cells = [parse_list(cell.get("cpus", "")) for cell in cpu.iterfind("numa/cell")]
    cores = [frozenset(range(first, first + threads)) for first in range(0, vcpus, threads)]
    if in_die % threads == 0 and all(any(core <= cell for cell in cells) for core in cores):
        topology.set("cores", str(in_die // threads))
        topology.set("threads", str(threads))
