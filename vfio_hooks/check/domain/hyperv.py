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
_SMALL = frozenset({"runtime", "frequencies"})
"""What by itself is not worth a line."""


def _has_all(guest: Guest) -> bool:
    """Whether QEMU or libvirt switches on all that there is. libvirt 11.9 has host-model."""
    return attribute(guest, _HYPERV, "mode") in ("passthrough", "host-model")


def _state(guest: Guest, name: str) -> str | None:
    return attribute(guest, f"{_HYPERV}/{name}", "state")


@guest_rule(
    "hyperv-off",
    "warning",
    why="Each is something that Windows asks its hypervisor for instead of slow hardware: not to "
    "take a late interrupt for a crash (relaxed), interrupts and timers without leaving the guest "
    "(vapic, synic, stimer), waiting rather than burning CPU time (spinlocks), and one call for "
    "all of its CPUs (tlbflush, ipi).",
    source=_SOURCE,
)
def off(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or _has_all(guest):
        return
    left = [name for name in _LIGHTS if _state(guest, name) != "on"]
    if not _SMALL.issuperset(left):
        one = len(left) == 1
        yield Seen(
            f"{', '.join(left)} {'is' if one else 'are'} not on for Windows",
            edits=tuple(
                Edit(f"{_HYPERV}/{name}", {"state": "on"} | _LIGHTS[name]) for name in left
            ),
        )


@guest_rule(
    "hyperv-evmcs",
    "hint",
    why="It makes virtual machines inside of the guest faster (WSL 2, core isolation).",
    source=_SOURCE,
    sure="possible",
)
def nested(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or _has_all(guest) or vendor(patient.host) != INTEL:
        return
    # Who has put "off" there for one that few need has thought of it.
    if policy(guest, "vmx") in ("require", "force") and _state(guest, "evmcs") is None:
        yield Seen(
            "the guest may run virtual machines (vmx), and evmcs is not on",
            edits=(put(f"{_HYPERV}/evmcs", state="on"),),
            by_hand=True,
        )


@guest_rule(
    "hyperv-stimer-direct",
    "hint",
    why="A timer then interrupts its CPU at once, rather than send it a message.",
    source=_SOURCE,
)
def direct(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or _has_all(guest) or _state(guest, "stimer") != "on":
        return
    if attribute(guest, f"{_HYPERV}/stimer/direct", "state") != "on":
        yield Seen(
            "stimer is on, and direct is not",
            edits=(put(f"{_HYPERV}/stimer/direct", state="on"),),
        )


@guest_rule(
    "hyperv-avic",
    "hint",
    why="Without it synic switches off what the processor has for interrupts (AVIC, APICv), and "
    "the guest leaves the processor for many of them.",
    source=_SOURCE,
    sure="likely",
)
def avic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not sees_lights(guest) or _has_all(guest):
        return
    modules = ("kvm_amd", "avic"), ("kvm_intel", "enable_apicv")
    used = any(module_parameter(patient.host, *one) in ("Y", "1") for one in modules)
    if used and _state(guest, "synic") == "on" and _state(guest, "avic") is None:
        yield Seen("synic is on, and avic is not", edits=(put(f"{_HYPERV}/avic", state="on"),))


@guest_rule(
    "hyperv-passthrough",
    "hint",
    why="In this mode QEMU switches on whatever it and the kernel know. libvirt does not read the "
    "lines below it, and drops them when it writes the domain again.",
    source="libvirt's domain_conf.c, virDomainFeaturesHyperVDefParse",
)
def passthrough(patient: Patient, guest: Guest) -> Iterator[Seen]:
    lines = [one.tag for one in guest.xml.iterfind(f"{_HYPERV}/*") if isinstance(one.tag, str)]
    if attribute(guest, _HYPERV, "mode") == "passthrough" and lines and sees_lights(guest):
        yield Seen(
            f"with mode='passthrough', {len(lines)} lines of <hyperv> have no effect: "
            f"{', '.join(lines)}",
            "or mode='custom', where those that are off have to be",
            (drop(f"{_HYPERV}/*"),),
        )


@guest_rule(
    "hyperv-evmcs-on-amd",
    "error",
    why="Enlightened VMCS is Intel's; QEMU does not start with it on another processor.",
    source=_SOURCE,
)
def evmcs(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if vendor(patient.host) != AMD or not is_kvm(guest) or own_cpu(guest) is not None:
        return
    if attribute(guest, _HYPERV, "mode") != "passthrough" and _state(guest, "evmcs") == "on":
        yield Seen(
            "evmcs is on, and this host's processor is AMD's",
            edits=(put(f"{_HYPERV}/evmcs", state="off"),),
        )


RULES = (evmcs, off, direct, avic, nested, passthrough)
