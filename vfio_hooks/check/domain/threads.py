"""How the kernel schedules the domain's threads, and what it shares out to them."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import shows_files
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import drop
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.host.cpulist import parse_list
from vfio_hooks.plural import numbered

_REAL_TIME = ("fifo", "rr")


@guest_rule(
    "pins-realtime",
    "warning",
    why="A real-time vCPU keeps its CPU until it waits. The host's own work on that CPU, even "
    "the kernel's work for this guest's disks and network, has to wait, and the host may hang.",
    source="sched(7); https://libvirt.org/formatdomain.html#cpu-tuning",
)
def real_time(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [
        one for one in guest.xml.iterfind("cputune/vcpusched") if one.get("scheduler") in _REAL_TIME
    ]
    vcpus = frozenset[int]().union(*(parse_list(one.get("vcpus", "")) for one in found))
    pins, isolated = (
        guest.domain.vcpu_pins,
        parse_list(patient.host.maybe(f"{CPUS}/isolated") or ""),
    )
    if any(vcpu not in pins or not pins[vcpu] <= isolated for vcpu in vcpus):
        kinds = ", ".join(dict.fromkeys(one.get("scheduler", "") for one in found))
        yield Seen(
            f"the threads of {numbered('vCPU', vcpus)} run in real time ({kinds})",
            "unless you have tested that; CPUs that the kernel isolates (isolcpus=) are safer",
            (drop("cputune/vcpusched"),),
            by_hand=True,
        )


@guest_rule(
    "cputune-resctrl",
    "error",
    why="The kernel's resctrl shares out caches and memory bandwidth, and counts energy. libvirt "
    "does not start a domain that asks for this while resctrl is not mounted.",
    source="https://docs.kernel.org/filesystems/resctrl.html; "
    "https://libvirt.org/formatdomain.html#cpu-tuning",
)
def resctrl(patient: Patient, guest: Guest) -> Iterator[Seen]:
    asked = [name for name in _SHARED if guest.xml.find(f"cputune/{name}") is not None]
    if not asked or not shows_files(patient.host):
        return
    if not patient.host.exists(f"{_RESCTRL}/info"):
        yield Seen(
            f"<{'>, <'.join(asked)}> in <cputune>, and {_RESCTRL} is not mounted",
            f"mount -t resctrl resctrl {_RESCTRL}, or a line in /etc/fstab for each boot; if that "
            "fails, the processor or the kernel does not support it",
        )
    elif "energytune" in asked and not patient.host.exists(f"{_RESCTRL}/info/PERF_PKG_MON"):
        yield Seen(
            "<energytune> in <cputune>, and this host does not count energy for each group",
            "remove <energytune>: it needs Linux 7.0 and an Intel processor that supports it",
        )


_RESCTRL = "/sys/fs/resctrl"
_SHARED = ("cachetune", "memorytune", "energytune")
RULES = (real_time, resctrl)
