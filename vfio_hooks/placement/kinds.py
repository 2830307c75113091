"""What can be wrong with a VM's place: the names, and why each matters."""

from typing import Literal

from vfio_hooks.domain.editing import Edit
from vfio_hooks.host.cpulist import CpuSet
from vfio_hooks.record import record

Level = Literal["error", "warning", "hint"]
"""What does not work; what costs something; what may be better."""
Sure = Literal["certain", "likely", "possible"]


@record
class Kind:
    """A kind of fault. `source` is the document that says `why`."""

    level: Level
    why: str
    source: str
    sure: Sure = "certain"


@record
class Fault:
    """A fault of a VM's place, by the name of its kind: what was seen, what to do, which edits of
    its XML fix it, and the CPUs and devices that it is about."""

    name: str
    text: str
    do: str = ""
    edits: tuple[Edit, ...] = ()
    cpus: CpuSet = frozenset()
    devices: tuple[str, ...] = ()

    @property
    def kind(self) -> Kind:
        return KINDS[self.name]


_FORMAT = "https://libvirt.org/formatdomain.html"
_PINNING = "guide: CPU Pinning"
_NODES = "guide: vfio-isolate"

KINDS: dict[str, Kind] = {
    "pins-offline": Kind(
        "error",
        "libvirt does not start a domain that is pinned to a CPU that does not run.",
        f"{_FORMAT}#cpu-tuning",
    ),
    "pins-all": Kind(
        "warning",
        "QEMU's own threads and the rest of the host have to run somewhere. Each time they do, a "
        "vCPU stops, and the guest's input and output wait for it.",
        f"{_FORMAT}#cpu-tuning",
    ),
    "pins-none": Kind(
        "warning",
        "The host moves vCPUs that are not pinned from CPU to CPU, away from their caches, and "
        "may put two of them on one core.",
        _PINNING,
    ),
    "pins-missing": Kind(
        "warning",
        "A vCPU that is not pinned also runs on the CPUs of the others.",
        f"{_FORMAT}#cpu-tuning",
    ),
    "pins-isolated": Kind(
        "warning",
        "The kernel does not spread threads over isolated CPUs: all of them stay on the first "
        "one that they may use, and share it.",
        "https://docs.kernel.org/admin-guide/kernel-parameters.html, isolcpus=",
    ),
    "pins-twice": Kind(
        "warning",
        "Two vCPUs on one CPU wait for each other, and a guest that spins for a lock wastes that "
        "time.",
        _PINNING,
    ),
    "pins-siblings": Kind(
        "warning",
        "The guest puts two busy programs onto what it believes to be two cores, and lets "
        "threads share what it believes to be one core.",
        _PINNING,
    ),
    "pins-half-core": Kind(
        "warning",
        "Two threads share the caches and units of a core, so what the host does on one slows "
        "down the other.",
        _NODES,
    ),
    "pins-emulator": Kind(
        "warning",
        "QEMU's own threads do the guest's input and output. If they may use the vCPUs' CPUs, "
        "the guest stops while they work.",
        "guide: Emulator Pin",
    ),
    "pins-iothread": Kind(
        "warning",
        "An iothread on a vCPU's CPU stops that vCPU while it reads and writes.",
        "guide: IO Threads and IO Thread Pin",
    ),
    "node-pins": Kind(
        "warning",
        "Memory of another node is slower, and a guest that does not know of the nodes cannot "
        "avoid it.",
        _NODES,
    ),
    "node-memory": Kind(
        "warning",
        "Memory comes from any node unless it is bound to one, and memory of another node is "
        "slower.",
        _NODES,
    ),
    "node-device": Kind(
        "warning",
        "If the VM is on another node than the device, everything that the device reads and "
        "writes goes from processor to processor.",
        _NODES,
    ),
    "node-kinds": Kind(
        "warning",
        "The guest believes that all vCPUs are equally fast, and waits for the one on the slow "
        "core.",
        "https://docs.kernel.org/admin-guide/pm/intel_pstate.html",
        "likely",
    ),
    "node-cache": Kind(
        "hint",
        "CPUs that share a level 3 cache (on AMD: a CCX) communicate through it; others have to "
        "use memory. Most games gain from a large cache (X3D).",
        "guide: Start VM",
        "likely",
    ),
    "node-vcpus": Kind(
        "hint",
        "Most games use few threads, and wait for the slowest: they gain more from fast cores or "
        "from a large cache (X3D) than from some more vCPUs elsewhere.",
        "guide: Start VM",
        "possible",
    ),
    "pins-wide": Kind(
        "hint",
        "A vCPU that may use several CPUs is moved between them, and loses its caches each time.",
        _PINNING,
        "likely",
    ),
    "pins-cpu-0": Kind(
        "hint",
        "The first CPU does the host's timekeeping and has most of its interrupts and kernel "
        "threads.",
        "https://docs.kernel.org/timers/no_hz.html",
        "likely",
    ),
    "vm-shares": Kind(
        "hint",
        "If both VMs run at once, they wait for each other on a CPU that both have. If both have "
        "the same device, the second VM does not start.",
        f"{_FORMAT}#cpu-tuning",
        "possible",
    ),
}
"""In the order in which they are shown."""
