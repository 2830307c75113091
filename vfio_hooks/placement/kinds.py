"""What can be wrong with where a VM is: the names, and why each matters."""

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
    """A fault of a VM, by the name of its kind: what is seen, what to do, which edits of its XML
    mend it, and the CPUs and devices that it is about."""

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
        "QEMU's own threads and the whole host have to run somewhere: each time they do, a vCPU "
        "stands still, and the guest's input and output wait for the guest.",
        f"{_FORMAT}#cpu-tuning",
    ),
    "pins-none": Kind(
        "warning",
        "The host moves vCPUs that are not pinned from CPU to CPU, away from their caches, and "
        "two of them onto one core.",
        _PINNING,
    ),
    "pins-missing": Kind(
        "warning",
        "A vCPU that is not pinned runs on the CPUs of the others too.",
        f"{_FORMAT}#cpu-tuning",
    ),
    "pins-isolated": Kind(
        "warning",
        "The kernel does not spread threads over isolated CPUs: all stay on the first one that "
        "they may use, and share it.",
        "https://docs.kernel.org/admin-guide/kernel-parameters.html, isolcpus=",
    ),
    "pins-twice": Kind(
        "warning",
        "Two vCPUs on one CPU wait for each other; a guest that spins for a lock spins in vain.",
        _PINNING,
    ),
    "pins-siblings": Kind(
        "warning",
        "The guest puts two busy programs onto what it takes for two cores, and lets two threads "
        "of what it takes for one core share their work.",
        _PINNING,
    ),
    "pins-half-core": Kind(
        "warning",
        "Two threads share a core's caches and units: what the host does on one slows the other.",
        _NODES,
    ),
    "pins-emulator": Kind(
        "warning",
        "QEMU's own threads do the guest's input and output. Where they may use the vCPUs' CPUs, "
        "the guest stands still while they work.",
        "guide: Emulator Pin",
    ),
    "pins-iothread": Kind(
        "warning",
        "An iothread that uses a vCPU's CPU stops that while it reads and writes.",
        "guide: IO Threads and IO Thread Pin",
    ),
    "node-pins": Kind(
        "warning",
        "Memory of another node is slower, and a guest that is not told of nodes cannot avoid it.",
        _NODES,
    ),
    "node-memory": Kind(
        "warning",
        "Memory comes from any node unless it is told from which; from another one it is slower.",
        _NODES,
    ),
    "node-device": Kind(
        "warning",
        "What a device reads and writes goes from processor to processor, where the VM is on "
        "another node than the device.",
        _NODES,
    ),
    "node-kinds": Kind(
        "warning",
        "The guest takes all vCPUs for alike, and waits for the one on the slow core.",
        "https://docs.kernel.org/admin-guide/pm/intel_pstate.html",
        "likely",
    ),
    "node-cache": Kind(
        "hint",
        "CPUs that share a level 3 cache (on AMD: a CCX) talk through it; others through memory. "
        "Most games gain from a large one (X3D).",
        "guide: Start VM",
        "likely",
    ),
    "pins-wide": Kind(
        "hint",
        "A vCPU that may use several CPUs is moved between them, and loses its caches each time.",
        _PINNING,
        "likely",
    ),
    "pins-cpu-0": Kind(
        "hint",
        "The first CPU has the host's timekeeping and most of its interrupts and kernel threads.",
        "https://docs.kernel.org/timers/no_hz.html",
        "likely",
    ),
    "vm-shares": Kind(
        "hint",
        "VMs that run at once wait for each other on a CPU of both; with a device of both, the "
        "second one does not start.",
        f"{_FORMAT}#cpu-tuning",
        "possible",
    ),
}
"""In the order in which they are told."""
