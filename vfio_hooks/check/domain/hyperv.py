"""Hyper-V enlightenments: what Windows asks its hypervisor for instead of the slow hardware.

https://www.qemu.org/docs/master/system/i386/hyperv.html
"""

from collections.abc import Iterator

from vfio_hooks.check.domain.kind import attribute, is_kvm, own_cpu, policy, sees_lights
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Edit, drop, put
from vfio_hooks.host.boot import module_parameter
from vfio_hooks.host.processor import AMD, INTEL, vendor
from vfio_hooks.plural import verb

_SOURCE = "https://www.qemu.org/docs/master/system/i386/hyperv.html"
_HYPERV = "features/hyperv"
_LIGHTS: dict[str, dict[str, str]] = {
    "relaxed": {},
    "vapic": {},
    "spinlocks": {"retries": "8191"},
    "vpindex": {},
    "runtime": {},
    "synic": {},
    "stimer": {},
    "frequencies": {},
    "tlbflush": {},
    "ipi": {},
}
"""What Windows uses on any processor, in an order in which each comes after what it needs."""
CLOCK = "hypervclock"
TIMER = f"clock/timer[@name='{CLOCK}']"
_NEEDS = {
    "synic": ("vpindex",),
    "stimer": ("vpindex", "synic", CLOCK),
    "tlbflush": ("vpindex",),
    "ipi": ("vpindex",),
    "evmcs": ("vapic",),
}
_SMALL = frozenset({"runtime", "frequencies"})
"""Not worth a finding by itself."""


def has_all(guest: Guest) -> bool:
    """Whether QEMU or libvirt switches on all that there is. libvirt 11.9 has host-model."""
    return attribute(guest, _HYPERV, "mode") in ("passthrough", "host-model")


def _state(guest: Guest, name: str) -> str | None:
    return attribute(guest, f"{_HYPERV}/{name}", "state")


@guest_rule(
    "hyperv-off",
    "warning",
    why="With each of these, Windows asks the hypervisor instead of slow emulated hardware. It "
    "no longer takes a late interrupt for a crash (relaxed), has interrupts and timers "
    "without leaving the guest (vapic, synic, stimer), waits instead of burning CPU time "
    "(spinlocks), and makes one call for all of its CPUs (tlbflush, ipi).",
    source=_SOURCE,
)
def off(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or has_all(guest):
        return
    # An enlightenment that others need is an error of its own.
    needed = {need for needs in _missing(guest).values() for need in needs}
    left = [name for name in _LIGHTS if _state(guest, name) != "on" and name not in needed]
    if not _SMALL.issuperset(left):
        one = len(left) == 1
        yield Seen(
            f"{', '.join(left)} {'is' if one else 'are'} off, though the guest is Windows",
            edits=tuple(edit for name in left for edit in _switched_on(guest, name)),
        )


@guest_rule(
    "hyperv-requirements",
    "error",
    why="QEMU does not start with an enlightenment that needs another one which is off. Since "
    "12.1 libvirt refuses to define such a domain.",
    source="QEMU's target/i386/kvm/kvm.c, hv_cpuid_check_and_set; libvirt's news of 12.1",
)
def requirements(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_kvm(guest) or own_cpu(guest) is not None or has_all(guest):
        return
    missing = _missing(guest)
    if missing:
        told = "; ".join(f"{name} needs {' and '.join(needs)}" for name, needs in missing.items())
        wanted = dict.fromkeys(need for needs in missing.values() for need in needs)
        edits = [edit for need in wanted for edit in _switched_on(guest, need)]
        yield Seen(f"{told}, which {verb(len(wanted))} not on", edits=tuple(edits))


def _missing(guest: Guest) -> dict[str, list[str]]:
    """For each enlightenment that is on, those that it needs and that are off."""
    missing = {
        name: [need for need in needs if not _is_there(guest, need)]
        for name, needs in _NEEDS.items()
        if _state(guest, name) == "on"
    }
    return {name: needs for name, needs in missing.items() if needs}


def _is_there(guest: Guest, name: str) -> bool:
    if name == CLOCK:
        return attribute(guest, TIMER, "present") == "yes"
    return _state(guest, name) == "on"


def _switched_on(guest: Guest, name: str) -> Iterator[Edit]:
    if name != CLOCK:
        yield Edit(f"{_HYPERV}/{name}", {"state": "on"} | _LIGHTS[name])
        return
    # The schema wants an offset of each <clock>; UTC is what is meant without one.
    if attribute(guest, "clock", "offset") is None:
        yield put("clock", offset="utc")
    yield put(TIMER, present="yes")


@guest_rule(
    "hyperv-evmcs",
    "hint",
    why="It makes virtual machines inside the guest faster (WSL 2, core isolation).",
    source=_SOURCE,
    sure="possible",
)
def nested(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or has_all(guest) or vendor(patient.host) != INTEL:
        return
    # Few guests need it, so an explicit "off" is intended.
    if policy(guest, "vmx") in ("require", "force") and _state(guest, "evmcs") is None:
        yield Seen(
            "the guest may run virtual machines (vmx), but evmcs is off",
            edits=(put(f"{_HYPERV}/evmcs", state="on"),),
            by_hand=True,
        )


@guest_rule(
    "hyperv-stimer-direct",
    "hint",
    why="In direct mode a timer interrupts its CPU at once, instead of sending it a message.",
    source=_SOURCE,
)
def direct(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or has_all(guest) or _state(guest, "stimer") != "on":
        return
    if attribute(guest, f"{_HYPERV}/stimer/direct", "state") != "on":
        yield Seen(
            "stimer is on, but its direct mode is off",
            edits=(put(f"{_HYPERV}/stimer/direct", state="on"),),
        )


@guest_rule(
    "hyperv-avic",
    "hint",
    why="Without avic, synic switches off the processor's own support for interrupts (AVIC, "
    "APICv), and many interrupts then stop the guest.",
    source=_SOURCE,
    sure="likely",
)
def avic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or has_all(guest):
        return
    modules = ("kvm_amd", "avic"), ("kvm_intel", "enable_apicv")
    used = any(module_parameter(patient.host, *one) in ("Y", "1") for one in modules)
    if used and _state(guest, "synic") == "on" and _state(guest, "avic") is None:
        yield Seen("synic is on, but avic is off", edits=(put(f"{_HYPERV}/avic", state="on"),))


@guest_rule(
    "hyperv-passthrough",
    "hint",
    why="In this mode QEMU switches on everything that it and the kernel support. libvirt "
    "ignores the lines below it, and drops them when it writes the domain again.",
    source="libvirt's domain_conf.c, virDomainFeaturesHyperVDefParse",
)
def passthrough(patient: Patient, guest: Guest) -> Iterator[Seen]:
    lines = [one.tag for one in guest.xml.iterfind(f"{_HYPERV}/*") if isinstance(one.tag, str)]
    if attribute(guest, _HYPERV, "mode") == "passthrough" and lines and sees_lights(guest):
        yield Seen(
            f"with mode='passthrough', these lines of <hyperv> have no effect: {', '.join(lines)}",
            "or mode='custom', if those that are off have to be off",
            (drop(f"{_HYPERV}/*"),),
        )


@guest_rule(
    "hyperv-evmcs-on-amd",
    "error",
    why="Enlightened VMCS is for Intel processors. QEMU does not start with it on another "
    "processor.",
    source=_SOURCE,
)
def evmcs(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if vendor(patient.host) != AMD or not is_kvm(guest) or own_cpu(guest) is not None:
        return
    if attribute(guest, _HYPERV, "mode") != "passthrough" and _state(guest, "evmcs") == "on":
        yield Seen(
            "evmcs is on, but this host has an AMD processor",
            edits=(put(f"{_HYPERV}/evmcs", state="off"),),
        )


RULES = (evmcs, requirements, off, direct, avic, nested, passthrough)
