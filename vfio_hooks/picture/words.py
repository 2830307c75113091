"""What both drawings say in the same words."""

from collections.abc import Callable, Sequence

from vfio_hooks.host.memory import amount
from vfio_hooks.picture.scene import Cpu, Device, Group, Node, Vm
from vfio_hooks.plural import counted, numbered


def seat(cpu: Cpu) -> str:
    """What is pinned to a CPU, in about five letters: "A3" is A's vCPU 3, "A*" several of its
    vCPUs, "Ae" its emulator threads, "Ai" I/O threads; "A+B" is more than one VM."""
    if len(cpu.seats) > 1:
        return "+".join(one.letter for one in cpu.seats)
    for one in cpu.seats:
        vcpus = "*" if len(one.vcpus) > 1 else "".join(map(str, one.vcpus))
        helpers = ("e" if one.emulator else "") + ("i" if one.iothreads else "")
        return one.letter + vcpus + helpers
    return ""


def weight(part: float | None) -> str:
    """A part of all interrupts in percent; "" if it is almost 0."""
    if not part or part < 0.0005:
        return ""
    return f"{part:.1%}" if part < 0.0995 else f"{part:.0%}"


def marks(numbers: Sequence[int]) -> str:
    """Problems by their numbers, in a cell: "!2", "!1,4", "!1+" for more than fit."""
    text = "!" + ",".join(map(str, numbers))
    return "" if not numbers else text if len(text) <= 4 else f"!{numbers[0]}+"


def vm(one: Vm) -> str:
    where = f"on {numbered('CPU', one.pinned)}" if one.pinned else "not pinned"
    state = "running" if one.running else "defined"
    return f"{one.name}, {state}: {counted(one.vcpus, 'vCPU')} {where}"


def group(one: Group) -> str:
    """ "L3 32 MiB, performance cores"."""
    cache = f"L3 {amount(one.size)}" if one.size else "no L3"
    return f"{cache}, {one.kind} cores" if one.kind else cache


def node(one: Node) -> str:
    return f"node {one.number}  {amount(one.memory)}" if one.memory else f"node {one.number}"


def device(one: Device, vm_name: Callable[[str], str] = str) -> Sequence[str]:
    """A device's address, its kind and name, and details. `vm_name` returns how a VM is called, by
    its letter."""
    parts = [f"group {one.group}" if one.group else "no IOMMU group"]
    if one.link:
        slowed = one.best and one.link.width < one.best.width
        parts.append(f"{one.link}{f' of x{one.best.width}' if slowed and one.best else ''}")
    parts.append("for " + "+".join(map(vm_name, one.vms)) if one.vms else one.driver or "no driver")
    return (one.address, f"{one.kind} {one.name}", ", ".join(parts))
