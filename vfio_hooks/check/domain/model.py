"""The processor that the guest sees: its model, features, caches, and cores with threads."""

from collections import Counter
from collections.abc import Iterator
from math import prod

from vfio_hooks.check.domain.facts import passed, whole
from vfio_hooks.check.domain.kind import (
    OFF,
    attribute,
    hides_hypervisor,
    is_kvm,
    is_macos,
    is_windows,
    is_x86,
    own_cpu,
    policy,
)
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Edit, drop, put
from vfio_hooks.host.boot import module_parameter
from vfio_hooks.host.processor import AMD, flags, vendor

_GUIDE = "guide: CPU mode"
_WHOLE = ("host-passthrough", "maximum")
_MOST_SOCKETS = 2
"""Windows 10 and 11 Pro use no more."""
_PARTS = ("sockets", "dies", "clusters", "cores", "threads")


def _mode(guest: Guest) -> str:
    """The mode of <cpu>; without one it is a model by name."""
    return attribute(guest, "cpu", "mode") or "custom"


def _is_told(guest: Guest) -> bool:
    """Whether <cpu> is what the guest's processor is made of."""
    return is_kvm(guest) and is_x86(guest) and own_cpu(guest) is None


@guest_rule(
    "cpu-override",
    "warning",
    why="libvirt puts these arguments last, and of several -cpu QEMU takes the last one: it has "
    "no part of the model, the features and the enlightenments that the XML asks for.",
    source="QEMU's system/vl.c, QEMU_OPTION_cpu",
)
def override(patient: Patient, guest: Guest) -> Iterator[Seen]:
    given = own_cpu(guest)
    # What macOS needs cannot be said in the XML; it matters where something is said there, too.
    replaced = ("cpu[@mode]", "cpu/model", "cpu/feature", "features/hyperv", "features/kvm")
    if given is None or not any(guest.xml.find(path) is not None for path in replaced):
        return
    text = f"-cpu {given.partition(',')[0]} in <qemu:commandline> replaces the XML's own: "
    text += "<cpu>'s mode and features, <hyperv>, <kvm> and hypervclock have no effect"
    yield Seen(
        text,
        "what macOS needs cannot be said in <cpu>: keep it, and change that argument"
        if is_macos(guest)
        else "say it in <cpu mode='host-passthrough'> and <features>, and take both "
        "<qemu:arg> away",
    )


@guest_rule(
    "cpu-hypervisor-off",
    "warning",
    why="Windows looks for this bit before it asks for any enlightenment. Without it Windows uses "
    "none, takes the slow timers, and burns CPU time where it could wait.",
    source="Hypervisor Top Level Functional Specification, Feature and Interface Discovery",
)
def no_hypervisor(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if _is_told(guest) and hides_hypervisor(guest) and not is_macos(guest):
        windows = is_windows(guest)
        yield Seen(
            "the hypervisor bit is off, so "
            + (
                "Windows uses nothing of <hyperv> nor hypervclock"
                if windows
                else "the guest uses nothing of what KVM offers it"
            ),
            "unless a program in the guest must not see that it is virtual: remove <feature "
            "policy='disable' name='hypervisor'/>",
        )


@guest_rule(
    "cpu-mode",
    "warning",
    why="Other modes hide instructions and caches of the processor from the guest, and some games "
    "refuse a processor that does not exist.",
    source=_GUIDE,
)
def mode(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not _is_told(guest) or is_macos(guest) or _mode(guest) in (*_WHOLE, "host-model"):
        return
    if passed(patient, guest):
        name = guest.xml.findtext("cpu/model") or "QEMU's default"
        yield Seen(f"the CPU mode is custom, {name}", edits=tuple(_whole_cpu(guest)))


def _whole_cpu(guest: Guest) -> Iterator[Edit]:
    mode = {"mode": "host-passthrough", "check": "none", "migratable": "off", "match": None}
    yield Edit("cpu", mode)
    for name in ("model", "vendor"):
        if guest.xml.find(f"cpu/{name}") is not None:
            yield drop(f"cpu/{name}")
    # Features that a model lacks are all there now, and those of another maker cannot be.
    for feature in guest.xml.iterfind("cpu/feature"):
        if feature.get("policy", "require") not in OFF and feature.get("name") != "topoext":
            yield drop(f"cpu/feature[@name='{feature.get('name')}']")


@guest_rule(
    "cpu-migratable",
    "hint",
    why="A migratable processor lacks the invariant time stamp counter, so a guest may take a "
    "slower clock. Without it the VM cannot be saved, but no VM with passed devices can.",
    source="QEMU's target/i386/cpu.c, unmigratable_flags; "
    "https://libvirt.org/formatdomain.html#cpu-model-and-topology",
    sure="possible",
)
def migratable(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not _is_told(guest) or _mode(guest) != "host-passthrough" or not passed(patient, guest):
        return
    # Asked for by name it is there all the same; with hypervclock Windows does without.
    if policy(guest, "invtsc") in ("require", "force") or is_windows(guest):
        return
    value = attribute(guest, "cpu", "migratable")
    if value != "off" and not is_macos(guest):
        yield Seen(
            "the processor is migratable" + ("" if value else ", which is the default"),
            edits=(put("cpu", migratable="off"),),
        )


@guest_rule(
    "cpu-cache",
    "hint",
    why="Without it QEMU makes up caches: the guest's scheduler then thinks that other CPUs share "
    "a level 3 cache than really do.",
    source="cpu-model-and-topology",
    sure="likely",
)
def cache(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not _is_told(guest) or _mode(guest) not in _WHOLE or is_macos(guest):
        return
    if passed(patient, guest) and guest.xml.find("cpu/cache") is None:
        yield Seen(
            "the guest's caches are QEMU's own",
            edits=(put("cpu/cache", mode="passthrough"),),
        )


@guest_rule(
    "cpu-topoext",
    "warning",
    why="An AMD processor tells about SMT threads in this feature only; QEMU leaves it out by "
    "itself, and the guest takes each thread for a core.",
    source=f"{_GUIDE}; QEMU's target/i386/cpu.c, no_autoenable_flags",
)
def topoext(patient: Patient, guest: Guest) -> Iterator[Seen]:
    threads = attribute(guest, "cpu/topology", "threads")
    is_amd = vendor(patient.host) == AMD and "topoext" in flags(patient.host)
    # Models of AMD's by name, and host-model out of them, have it.
    if not is_amd or threads in (None, "1") or _mode(guest) not in _WHOLE:
        return
    if _is_told(guest) and policy(guest, "topoext") not in ("require", "force"):
        yield Seen(
            f"the guest has {threads} threads a core, and not the feature topoext",
            edits=(put("cpu/feature[@name='topoext']", policy="require"),),
        )


@guest_rule(
    "cpu-x2apic-off",
    "hint",
    why="Without x2APIC each of the guest's accesses to its interrupt controller goes through "
    "memory that KVM emulates. Only where AVIC of an older AMD processor is in use it is better.",
    source="QEMU's docs/system/i386/hyperv.rst and Linux's avic.c",
    sure="likely",
)
def x2apic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    avic = module_parameter(patient.host, "kvm_amd", "avic") in ("Y", "1")
    if _is_told(guest) and policy(guest, "x2apic") in OFF and not avic:
        yield Seen("x2apic is switched off", "remove <feature policy='disable' name='x2apic'/>")


@guest_rule(
    "cpu-topology-product",
    "error",
    why="libvirt does not define a domain whose sockets, dies, clusters, cores and threads do not "
    "make its number of vCPUs.",
    source="libvirt's qemu_validate.c, CPU topology doesn't match maximum vcpu count",
)
def product(patient: Patient, guest: Guest) -> Iterator[Seen]:
    told = guest.xml.find("cpu/topology")
    if told is None:
        return
    numbers = {name: whole(told.get(name), 1) for name in _PARTS if told.get(name)}
    count, vcpus = prod(numbers.values()), guest.domain.vcpus
    if count != vcpus:
        shown = " x ".join(f"{value} {name}" for name, value in numbers.items())
        threads = numbers.get("threads", 1)
        yield Seen(
            f"the topology has {shown} = {count} vCPUs, and <vcpu> says {vcpus}",
            edits=(_shaped(vcpus, 1 if vcpus % threads else threads),),
        )


@guest_rule(
    "cpu-topology",
    "warning",
    why="Without a topology each vCPU is a socket of its own, and Windows uses two of them at "
    "most; with a wrong one the guest puts two busy programs on one core's threads.",
    source=f"{_GUIDE}; libvirt's qemu_command.c, -smp",
)
def topology(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain, told = guest.domain, guest.xml.find("cpu/topology")
    if domain.vcpus < 2 or not is_x86(guest) or is_macos(guest):
        return
    # A guest with nodes of its own is told where its cores are by these, too.
    if guest.xml.find("cpu/numa") is not None:
        return
    threads, most = _host_threads(patient, guest), max(map(len, patient.topology.cores))
    sockets = domain.vcpus if told is None else whole(told.get("sockets"), 1)
    given = 1 if told is None else whole(told.get("threads"), 1)
    if told is not None and _product(guest) != domain.vcpus:
        return
    if is_windows(guest) and sockets > _MOST_SOCKETS:
        how = "" if told is not None else ", as <cpu> has no topology"
        text = f"the guest has {sockets} sockets{how}, and Windows uses {_MOST_SOCKETS} at most"
    elif told is None and threads in (None, 1):
        return
    elif threads is not None and given != threads:
        text = f"the guest is told of {given} threads a core, and its CPUs have {threads}"
    elif given > most:
        text = f"the guest is told of {given} threads a core, and this host's cores have {most}"
    else:
        return
    threads = threads or min(given, most)
    yield Seen(text, edits=(_shaped(domain.vcpus, 1 if domain.vcpus % threads else threads),))


def _product(guest: Guest) -> int:
    told = guest.xml.find("cpu/topology")
    return 0 if told is None else prod(whole(told.get(name), 1) for name in _PARTS)


def _host_threads(patient: Patient, guest: Guest) -> int | None:
    """How many SMT threads of each core the vCPUs are pinned to; None where that is not known
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


RULES = (
    product,
    override,
    no_hypervisor,
    mode,
    topology,
    topoext,
    cache,
    x2apic,
    migratable,
)
