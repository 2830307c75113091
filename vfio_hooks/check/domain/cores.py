"""The cores and threads that the guest sees: how many, and whether they match the host's."""

from collections import Counter
from collections.abc import Iterator
from math import prod

from vfio_hooks.check.domain.facts import whole
from vfio_hooks.check.domain.kind import (
    attribute,
    is_macos,
    is_windows,
    is_windows_server,
    is_x86,
    policy,
    shapes_itself,
)
from vfio_hooks.check.domain.model import WHOLE, is_told, mode_of
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Edit, put
from vfio_hooks.errors import HookError
from vfio_hooks.host.processor import AMD, flags, vendor
from vfio_hooks.plural import counted

_GUIDE = "guide: CPU mode"
_MOST_SOCKETS = 2
"""Windows 10 and 11 Pro use no more; a server does."""
_PARTS = ("sockets", "dies", "clusters", "cores", "threads")


@guest_rule(
    "cpu-topology-product",
    "error",
    why="libvirt refuses to define a domain whose sockets, dies, clusters, cores and threads do "
    "not multiply to its number of vCPUs.",
    source="libvirt's qemu_validate.c, CPU topology doesn't match maximum vcpu count",
)
def product(patient: Patient, guest: Guest) -> Iterator[Seen]:
    told = guest.xml.find("cpu/topology")
    if told is None:
        return
    numbers = {name: whole(told.get(name), 1) for name in _PARTS if told.get(name)}
    count, vcpus = prod(numbers.values()), guest.domain.vcpus
    if count != vcpus:
        shown = " x ".join(
            counted(value, name.removesuffix("s")) for name, value in numbers.items()
        )
        threads = numbers.get("threads", 1)
        yield Seen(
            f"the topology has {shown} = {counted(count, 'vCPU')}, but <vcpu> says {vcpus}",
            edits=(_shaped(vcpus, 1 if vcpus % threads else threads),),
        )


@guest_rule(
    "cpu-topology",
    "warning",
    why="Without a topology each vCPU is a socket of its own, and Windows uses at most two "
    "sockets. With a wrong topology the guest puts two busy programs on the threads of one "
    "core.",
    source=f"{_GUIDE}; libvirt's qemu_command.c, -smp",
)
def topology(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain, told = guest.domain, guest.xml.find("cpu/topology")
    if domain.vcpus < 2 or not is_x86(guest) or is_macos(guest) or shapes_itself(guest):
        return
    # A guest's own NUMA nodes also say where its cores are.
    if guest.xml.find("cpu/numa") is not None:
        return
    sockets = domain.vcpus if told is None else whole(told.get("sockets"), 1)
    given = 1 if told is None else whole(told.get("threads"), 1)
    try:
        threads, most = _host_threads(patient, guest), max(map(len, patient.topology.cores))
    except HookError:  # a host that shows no CPU
        threads, most = None, given
    if told is not None and _product(guest) != domain.vcpus:
        return
    if is_windows(guest) and not is_windows_server(guest) and sockets > _MOST_SOCKETS:
        how = "" if told is not None else ", as <cpu> has no topology"
        text = f"the guest has {sockets} sockets{how}, and Windows uses {_MOST_SOCKETS} at most"
    elif told is None and threads in (None, 1):
        return
    elif domain.vcpus % (threads or 1) and given == 1:
        # <topology> cannot describe such cores, because the vCPUs do not fill them.
        return
    elif threads is not None and given != threads:
        text = f"the guest sees {counted(given, 'thread')} per core, but its CPUs have {threads}"
    elif given > most:
        text = f"the guest sees {counted(given, 'thread')} per core, but this host's cores have "
        text += str(most)
    else:
        return
    threads = threads or min(given, most)
    yield Seen(text, edits=(_shaped(domain.vcpus, 1 if domain.vcpus % threads else threads),))


def _product(guest: Guest) -> int:
    told = guest.xml.find("cpu/topology")
    return 0 if told is None else prod(whole(told.get(name), 1) for name in _PARTS)


def _host_threads(patient: Patient, guest: Guest) -> int | None:
    """How many SMT threads of each core the vCPUs are pinned to; None if that is not known
    for all vCPUs, or not the same for all cores."""
    pins, idle = guest.domain.vcpu_pins, guest.domain.idle_vcpus
    used = [cpus for vcpu, cpus in pins.items() if vcpu not in idle]
    if len(used) != guest.domain.vcpus - len(idle) or any(len(cpus) != 1 for cpus in used):
        return None
    cpus, host = frozenset[int]().union(*used), patient.topology
    if not cpus <= host.online or len(cpus) != len(used):
        return None
    counts = Counter(len(core & cpus) for core in host.cores)
    del counts[0]
    return next(iter(counts)) if len(counts) == 1 else None


def _shaped(vcpus: int, threads: int) -> Edit:
    # "clusters" (libvirt 10) and dies multiply too: what is left out is one.
    cores = str(vcpus // threads)
    shape = {"sockets": "1", "dies": "1", "cores": cores, "threads": str(threads)}
    return Edit("cpu/topology", shape, only=True)


@guest_rule(
    "cpu-topoext",
    "warning",
    why="An AMD processor shows its SMT threads only through this feature. QEMU leaves it out by "
    "default, and then the guest takes each thread for a core.",
    source=f"{_GUIDE}; QEMU's target/i386/cpu.c, no_autoenable_flags",
)
def topoext(patient: Patient, guest: Guest) -> Iterator[Seen]:
    threads = attribute(guest, "cpu/topology", "threads")
    is_amd = vendor(patient.host) == AMD and "topoext" in flags(patient.host)
    # Models of AMD's by name, and host-model out of them, have it.
    if not is_amd or threads in (None, "1") or mode_of(guest) not in WHOLE:
        return
    if is_told(guest) and policy(guest, "topoext") not in ("require", "force"):
        yield Seen(
            f"the guest has {threads} threads per core, but not the feature topoext",
            edits=(put("cpu/feature[@name='topoext']", policy="require"),),
        )


RULES = (product, topology, topoext)
