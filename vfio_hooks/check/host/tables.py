"""What the host does on the VM's CPUs while the VM runs, and the tables of vm.toml that prevent
it."""

from collections.abc import Iterator
from contextlib import suppress
from shlex import quote

from vfio_hooks.check.rule import Guest, Patient, Seen, rule
from vfio_hooks.errors import HookError
from vfio_hooks.host import cpufreq
from vfio_hooks.host.cpu import CPUS
from vfio_hooks.host.cpulist import parse_list
from vfio_hooks.plugins.pinning import kept

SLOW_GOVERNORS = ("powersave", "conservative")
_KSM = "/sys/kernel/mm/ksm/run"


@rule(
    "vm-tables",
    "host",
    "hint",
    why="While a program of the host runs on a vCPU's CPU, or an interrupt is handled there, "
    "that vCPU stops. The guest also cannot ask for a CPU's full speed. And the kernel takes "
    "pages away for a moment, to see who uses them or to merge equal ones.",
    source="guide: vfio-isolate, Start VM script; https://docs.kernel.org/admin-guide/: "
    "cgroup-v2.html, pm/cpufreq.html, mm/ksm.html and sysctl/kernel.html",
)
def tables(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if guest is None or not guest.domain.pinned or not guest.domain.pci:
        return
    found = {
        name: text
        for name, text in _helpful(patient, guest)
        if name.strip("[]") not in patient.tables
    }
    if found:
        vm = quote(guest.domain.name)
        yield Seen(
            f"while the VM runs, {', '.join(found.values())}",
            f"in vm.toml: {' '.join(found)}"
            + ("" if patient.tables else f"; sudo vfio-hooks init {vm} writes one"),
        )


def _helpful(patient: Patient, guest: Guest) -> Iterator[tuple[str, str]]:
    """Tables that would help, each with what it would prevent."""
    host = patient.host
    own = frozenset[int]()
    with suppress(HookError):  # a host that shows no CPU
        running = patient.topology.online
        own = kept(guest.domain, running) & running
    if own - parse_list(host.maybe(f"{CPUS}/isolated") or ""):
        yield "[cpus]", "the host's programs use its CPUs"
    if own and host.names("/proc/irq"):
        yield "[irqs]", "interrupts go to them"
    governors = {
        policy.governor
        for policy in cpufreq.policies(host)
        if policy.cpus & guest.domain.pinned
        and "performance" in policy.governors
        and policy.governor != "performance"
    }
    if governors:
        yield "[governor]", f"they have the governor {', '.join(sorted(governors))}"
    busy = []
    if host.maybe("/proc/sys/kernel/numa_balancing") in ("1", "3"):
        busy.append("the kernel balances its memory between nodes")
    if host.maybe(_KSM) == "1":
        busy.append("KSM merges its pages")
    if busy:
        yield "[memory]", " and ".join(busy)


@rule(
    "ksm-on",
    "host",
    "hint",
    why="KSM searches all memory for equal pages, which costs CPU time. A merged page has to be "
    "copied when the guest writes to it. It is meant for many small VMs.",
    source="https://docs.kernel.org/admin-guide/mm/ksm.html",
)
def ksm(patient: Patient) -> Iterator[Seen]:
    if patient.guest is None and patient.host.maybe(_KSM) == "1":
        yield Seen(
            "KSM merges equal pages of memory",
            "in vm.toml: [memory]; or <memoryBacking><nosharepages/></memoryBacking> in the XML",
        )


RULES = (tables, ksm)
