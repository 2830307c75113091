"""Hyper-V enlightenments: what Windows asks its hypervisor for instead of the slow hardware.

https://www.qemu.org/docs/master/system/i386/hyperv.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import attribute, is_kvm, is_windows, is_x86
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Level, Patient, Rule, Seen
from vfio_hooks.domain.editing import Fix, both, put, remove
from vfio_hooks.host.boot import module_parameter
from vfio_hooks.host.processor import AMD, INTEL, vendor

if TYPE_CHECKING:
    from lxml.etree import _Element

_SOURCE = "https://www.qemu.org/docs/master/system/i386/hyperv.html"
_HYPERV = "features/hyperv"


@dataclass(frozen=True)
class _Light:
    """An enlightenment, why Windows wants it, and what of the others it needs. A `nested` one
    helps only a guest that runs Hyper-V itself, and then not always."""

    name: str
    why: str
    level: Level = "warning"
    needs: tuple[str, ...] = ()
    nested: bool = False
    more: tuple[tuple[str, str], ...] = ()


_LIGHTS = (
    _Light("relaxed", "Windows stops with a blue screen when the host is busy; relaxed, it waits."),
    _Light("vapic", "Interrupts are acknowledged through memory, without leaving the guest."),
    _Light(
        "spinlocks",
        "Windows tells the host when it waits for a lock, rather than burn its CPU.",
        more=(("retries", "8191"),),
    ),
    _Light("vpindex", "Windows gets the numbers of its CPUs, which other enlightenments need."),
    _Light(
        "runtime", "Windows can tell the time that it ran from the time that it waited.", "hint"
    ),
    _Light(
        "synic", "Windows gets messages and timers without emulated hardware.", needs=("vpindex",)
    ),
    _Light(
        "stimer",
        "Windows gets timers of KVM's, without which it programs the slow emulated clock.",
        needs=("vpindex", "synic"),
    ),
    _Light("frequencies", "Windows reads the clock's frequency rather than measure it.", "hint"),
    _Light(
        "tlbflush",
        "Windows flushes other CPUs' address caches in one call, also of those that do not run.",
        needs=("vpindex",),
    ),
    _Light("ipi", "Windows interrupts many of its CPUs in one call.", needs=("vpindex",)),
    _Light(
        "reset",
        "A guest can reset itself the Hyper-V way; Windows does not need it.",
        "hint",
        nested=True,
    ),
    _Light(
        "reenlightenment",
        "Of use to a guest that runs Hyper-V itself, and is migrated.",
        "hint",
        nested=True,
    ),
    _Light(
        "evmcs",
        "On Intel, it makes virtual machines inside of the guest faster (WSL 2, core isolation).",
        "hint",
        nested=True,
    ),
)


def _wants_it(guest: Guest) -> bool:
    return is_kvm(guest) and is_x86(guest) and is_windows(guest)


def _passthrough(guest: Guest) -> bool:
    return attribute(guest, _HYPERV, "mode") == "passthrough"


def _rule(light: _Light) -> Rule:
    @guest_rule(
        f"hyperv-{light.name}",
        light.level,
        why=light.why,
        source=_SOURCE,
        sure="possible" if light.nested else "certain",
    )
    def look(patient: Patient, guest: Guest) -> Iterator[Seen]:
        if not _wants_it(guest) or _passthrough(guest):
            return
        state = attribute(guest, f"{_HYPERV}/{light.name}", "state")
        # Who has put "off" there for one that few need has thought of it.
        if state == "on" or (light.nested and (state or not _is_nested(patient, guest, light))):
            return
        words = "".join(f" {name}='{value}'" for name, value in light.more)
        yield Seen(
            f"{light.name} is {state or 'not switched on'}",
            f"<features><hyperv><{light.name} state='on'{words}/></hyperv></features>",
            None if light.nested else _on(light),
        )

    return look


def _is_nested(patient: Patient, guest: Guest, light: _Light) -> bool:
    """Whether the guest's processor is told to have virtualization, for a hypervisor inside."""
    own = {INTEL: "vmx", AMD: "svm"}.get(vendor(patient.host))
    if own is None or (light.name == "evmcs" and own != "vmx"):
        return False
    return attribute(guest, f"cpu/feature[@name='{own}']", "policy") in ("require", "force")


def _on(light: _Light) -> Fix:
    needed = (put(f"{_HYPERV}/{name}", state="on") for name in light.needs)
    return both(*needed, put(f"{_HYPERV}/{light.name}", state="on", **dict(light.more)))


@guest_rule(
    "hyperv-stimer-direct",
    "hint",
    why="A timer then interrupts its CPU at once, rather than send it a message.",
    source=_SOURCE,
)
def direct(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not _wants_it(guest) or _passthrough(guest):
        return
    stimer = f"{_HYPERV}/stimer"
    if attribute(guest, stimer, "state") == "on" and (
        attribute(guest, f"{stimer}/direct", "state") != "on"
    ):
        yield Seen(
            "stimer is on, and direct is not",
            "<hyperv><stimer state='on'><direct state='on'/></stimer></hyperv>",
            put(f"{stimer}/direct", state="on"),
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
    if not _wants_it(guest) or _passthrough(guest):
        return
    modules = ("kvm_amd", "avic"), ("kvm_intel", "enable_apicv")
    used = any(module_parameter(patient.host, *one) in ("Y", "1") for one in modules)
    synic = attribute(guest, f"{_HYPERV}/synic", "state")
    if used and synic == "on" and attribute(guest, f"{_HYPERV}/avic", "state") is None:
        yield Seen(
            "synic is on, and avic is not",
            "<features><hyperv><avic state='on'/></hyperv></features>",
            put(f"{_HYPERV}/avic", state="on"),
        )


@guest_rule(
    "hyperv-passthrough",
    "hint",
    why="In this mode QEMU switches on whatever it and the kernel know; libvirt's own lines then "
    "add nothing, and none of them switches anything off.",
    source="guide: the second comment",
    sure="likely",
)
def passthrough(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # The maker's name is text, and so not among what passthrough switches on.
    lines = [
        one.tag
        for one in guest.xml.iterfind(f"{_HYPERV}/*")
        if isinstance(one.tag, str) and one.tag != "vendor_id"
    ]
    if _passthrough(guest) and lines:
        yield Seen(
            f"with mode='passthrough', {len(lines)} lines of <hyperv> have no effect: "
            f"{', '.join(lines)}",
            "remove these lines; or mode='custom', where those that are off have to be",
            _no_lines,
        )


def _no_lines(root: "_Element") -> None:
    for one in root.findall(f"{_HYPERV}/*"):
        if isinstance(one.tag, str) and one.tag != "vendor_id":
            remove(one)


@guest_rule(
    "hyperv-evmcs-on-amd",
    "error",
    why="Enlightened VMCS is Intel's; QEMU does not start with it on another processor.",
    source=_SOURCE,
)
def evmcs(patient: Patient, guest: Guest) -> Iterator[Seen]:
    state = attribute(guest, f"{_HYPERV}/evmcs", "state")
    if vendor(patient.host) != AMD or not is_kvm(guest) or _passthrough(guest):
        return
    if state == "on":
        yield Seen(
            "evmcs is on, and this host's processor is AMD's",
            "<features><hyperv><evmcs state='off'/></hyperv></features>",
            put(f"{_HYPERV}/evmcs", state="off"),
        )


RULES = (*map(_rule, _LIGHTS), direct, avic, passthrough, evmcs)
