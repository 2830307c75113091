"""How the kernel schedules the domain's threads."""

from collections.abc import Iterator

from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import drop
from vfio_hooks.host.cpulist import format_list, parse_list

_REAL_TIME = ("fifo", "rr")


@guest_rule(
    "pins-realtime",
    "warning",
    why="A vCPU in real time keeps its CPU until it waits: the host's own work there, even the "
    "kernel's for this guest's disks and network, has to wait for it, and the host may hang.",
    source="sched(7); https://libvirt.org/formatdomain.html#cpu-tuning",
)
def real_time(patient: Patient, guest: Guest) -> Iterator[Seen]:
    found = [
        one for one in guest.xml.iterfind("cputune/vcpusched") if one.get("scheduler") in _REAL_TIME
    ]
    vcpus = frozenset[int]().union(*(parse_list(one.get("vcpus", "")) for one in found))
    if vcpus:
        kinds = ", ".join(dict.fromkeys(one.get("scheduler", "") for one in found))
        yield Seen(
            f"threads of vCPU {format_list(vcpus)} run in real time ({kinds})",
            "unless these CPUs are set apart from the host, and tested so",
            (drop("cputune/vcpusched"),),
            by_hand=True,
        )


RULES = (real_time,)
