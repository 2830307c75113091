"""The processor that the guest sees: its model, features, caches, and cores with threads."""

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import (
    attribute,
    is_kvm,
    is_windows,
    is_x86,
    passed,
    whole,
)
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Fix, put, reach, remove
from vfio_hooks.host.processor import AMD, flags, vendor

if TYPE_CHECKING:
    from lxml.etree import _Element

_GUIDE = "guide: CPU mode"
_WHOLE = ("host-passthrough", "maximum")
_MOST_SOCKETS = 2
"""Windows 10 and 11 Pro use no more."""
_NO_TOPOLOGY = ", as <cpu> has no topology"


def _mode(guest: Guest) -> str:
    """The mode of <cpu>; without one it is a model by name."""
    return attribute(guest, "cpu", "mode") or "custom"


@guest_rule(
    "cpu-mode",
    "warning",
    why="Other modes hide instructions and caches of the processor from the guest, and some games "
    "refuse a processor that does not exist.",
    source=_GUIDE,
)
def mode(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if is_kvm(guest) and passed(patient, guest) and _mode(guest) not in _WHOLE:
        name = guest.xml.findtext("cpu/model") or "QEMU's default"
        told = f"custom, {name}" if _mode(guest) == "custom" else _mode(guest)
        yield Seen(
            f"the CPU mode is {told}",
            "<cpu mode='host-passthrough' check='none' migratable='off'>",
            _whole_cpu,
        )


def _whole_cpu(root: "_Element") -> None:
    cpu = reach(root, "cpu")
    if "match" in cpu.attrib:
        del cpu.attrib["match"]
    for below in [*cpu.iterfind("model"), *cpu.iterfind("vendor")]:
        remove(below)
    # Features that a model lacks are all there now, and those of another maker cannot be.
    for feature in cpu.findall("feature"):
        if feature.get("policy", "require") not in ("disable", "forbid"):
            remove(feature)
    for name, value in (("mode", "host-passthrough"), ("check", "none"), ("migratable", "off")):
        cpu.set(name, value)


@guest_rule(
    "cpu-migratable",
    "hint",
    why="A domain with passed devices does not migrate, but a migratable processor lacks the "
    "features that cannot be, such as the invariant time stamp counter.",
    source="cpu-model-and-topology",
    sure="likely",
)
def migratable(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_kvm(guest) or _mode(guest) != "host-passthrough" or not passed(patient, guest):
        return
    value = attribute(guest, "cpu", "migratable")
    if value != "off":
        yield Seen(
            "the processor is migratable" + ("" if value else ", which is the default"),
            "<cpu mode='host-passthrough' migratable='off'>",
            put("cpu", migratable="off"),
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
    if not is_kvm(guest) or not is_x86(guest) or _mode(guest) not in _WHOLE:
        return
    if passed(patient, guest) and guest.xml.find("cpu/cache") is None:
        yield Seen(
            "the guest's caches are QEMU's own",
            "<cpu mode='host-passthrough'><cache mode='passthrough'/></cpu>",
            put("cpu/cache", mode="passthrough"),
        )


@guest_rule(
    "cpu-topoext",
    "warning",
    why="An AMD processor tells about SMT threads in this feature only; QEMU leaves it out by "
    "itself, and the guest takes each thread for a core.",
    source=_GUIDE,
)
def topoext(patient: Patient, guest: Guest) -> Iterator[Seen]:
    threads = attribute(guest, "cpu/topology", "threads")
    if (
        vendor(patient.host) != AMD
        or "topoext" not in flags(patient.host)
        or threads in (None, "1")
    ):
        return
    policy = attribute(guest, "cpu/feature[@name='topoext']", "policy")
    if is_kvm(guest) and policy not in ("require", "force"):
        yield Seen(
            f"the guest has {threads} threads a core, and not the feature topoext",
            "<cpu><feature policy='require' name='topoext'/></cpu>",
            put("cpu/feature[@name='topoext']", policy="require"),
        )


@guest_rule(
    "cpu-topology",
    "warning",
    why="Without a topology each vCPU is a socket of its own, and Windows uses two of them at "
    "most; with a wrong one the guest puts two busy programs on one core's threads.",
    source=_GUIDE,
)
def topology(patient: Patient, guest: Guest) -> Iterator[Seen]:
    domain = guest.domain
    if domain.vcpus < 2 or not is_x86(guest):
        return
    told = guest.xml.find("cpu/topology")
    threads = _host_threads(patient, guest)
    sockets = domain.vcpus if told is None else whole(told.get("sockets"), 1)
    if told is None or (is_windows(guest) and sockets > _MOST_SOCKETS):
        if guest.xml.find("cpu/numa") is not None:
            return
        if not domain.vcpu_pins and not is_windows(guest):
            return
        text = f"the guest has {sockets} sockets" + ("" if told is not None else _NO_TOPOLOGY)
        given = 1 if told is None else whole(told.get("threads")) or 1
        threads = threads or (1 if domain.vcpus % given else given)
    elif threads is None or told.get("threads", "1") == str(threads):
        return
    else:
        text = (
            f"the topology has {told.get('threads', '1')} threads a core, and the CPUs that the "
            f"vCPUs are pinned to have {threads}"
        )
    cores = domain.vcpus // threads
    shape = {"sockets": "1", "dies": "1", "cores": str(cores), "threads": str(threads)}
    words = " ".join(f"{name}='{value}'" for name, value in shape.items())
    yield Seen(text, f"<cpu><topology {words}/></cpu>", _shaped(shape))


def _host_threads(patient: Patient, guest: Guest) -> int | None:
    """How many SMT threads of each core the vCPUs are pinned to; None where that is not known
    for all vCPUs, or not the same for all cores."""
    pins = guest.domain.vcpu_pins
    if len(pins) != guest.domain.vcpus or any(len(cpus) != 1 for cpus in pins.values()):
        return None
    host = patient.topology
    if not guest.domain.pinned <= host.online or len(guest.domain.pinned) != len(pins):
        return None
    used = Counter(len(core & guest.domain.pinned) for core in host.cores)
    del used[0]
    return next(iter(used)) if len(used) == 1 else None


def _shaped(shape: dict[str, str]) -> Fix:
    def fix(root: "_Element") -> None:
        told = reach(root, "cpu/topology")
        # "clusters" (libvirt 10) and dies multiply too: what is left out is one.
        told.attrib.clear()
        for name, value in shape.items():
            told.set(name, value)

    return fix


RULES = (mode, migratable, cache, topoext, topology)
