"""The processor that the guest sees: its model, features, caches, and cores with threads."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import is_tuned, passed, whole
from vfio_hooks.check.domain.kind import (
    OFF,
    arguments,
    attribute,
    hides_hypervisor,
    is_kvm,
    is_macos,
    is_old_windows,
    is_windows,
    is_x86,
    own_cpu,
    policy,
)
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import Edit, drop, put
from vfio_hooks.host import Host, processor
from vfio_hooks.host.boot import module_parameter
from vfio_hooks.host.pci_traits import iommu_width

_GUIDE = "guide: CPU mode"
WHOLE = ("host-passthrough", "maximum")
_UEFI_BITS = 47
"""edk2 uses no more of the processor's address bits."""
_SCHEMA = "/usr/share/libvirt/schemas/cputypes.rng"


def mode_of(guest: Guest) -> str:
    """The mode of <cpu>; without one it is a model by name."""
    return attribute(guest, "cpu", "mode") or "custom"


def is_told(guest: Guest) -> bool:
    """Whether <cpu> decides what the guest's processor is like, and not a -cpu argument."""
    return is_kvm(guest) and is_x86(guest) and own_cpu(guest) is None


@guest_rule(
    "cpu-override",
    "warning",
    why="libvirt puts these arguments last, and QEMU takes the last of several -cpu. So the "
    "model, the features and the enlightenments in the XML are all lost.",
    source="QEMU's system/vl.c, QEMU_OPTION_cpu",
)
def override(patient: Patient, guest: Guest) -> Iterator[Seen]:
    given = own_cpu(guest)
    replaced = ["cpu/feature", "features/hyperv", "features/kvm"]
    # What macOS needs cannot be said in the XML: any model stands there.
    replaced += [] if is_macos(guest) else ["cpu[@mode]", "cpu/model"]
    if given is None or not any(guest.xml.find(path) is not None for path in replaced):
        return
    text = f"-cpu {given.partition(',')[0]} in <qemu:commandline> replaces the XML's own: "
    text += "<cpu>'s mode and features, <hyperv>, <kvm> and hypervclock have no effect"
    yield Seen(
        text,
        "what macOS needs cannot be written in <cpu>, so keep the argument and change it"
        if is_macos(guest)
        else "write it into <cpu mode='host-passthrough'> and <features>, and remove both "
        "<qemu:arg>",
    )


@guest_rule(
    "cpu-hypervisor-off",
    "warning",
    why="Windows looks for this bit before it asks for any enlightenment. Without it Windows "
    "uses none of them, takes the slow timers, and burns CPU time instead of waiting.",
    source="Hypervisor Top Level Functional Specification, Feature and Interface Discovery",
)
def no_hypervisor(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if is_told(guest) and hides_hypervisor(guest) and not is_macos(guest):
        windows = is_windows(guest)
        yield Seen(
            "the hypervisor bit is off, so "
            + (
                "Windows uses neither <hyperv> nor hypervclock"
                if windows
                else "the guest uses nothing that KVM offers"
            ),
            "unless a program must not see that it runs in a VM: remove <feature "
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
    if not is_told(guest) or mode_of(guest) in (*WHOLE, "host-model"):
        return
    # These may not run on a newer model.
    if is_macos(guest) or is_old_windows(guest):
        return
    if passed(patient, guest):
        name = guest.xml.findtext("cpu/model") or "QEMU's default"
        narrow = list(_narrowed(patient, guest))
        do = _old_libvirt(patient.host) if narrow else ""
        edits = (*_whole_cpu(guest), *narrow)
        yield Seen(f"the CPU mode is custom, {name}", do, edits, by_hand=bool(do))


def _whole_cpu(guest: Guest) -> Iterator[Edit]:
    mode = {"mode": "host-passthrough", "check": "none", "migratable": "off", "match": None}
    yield Edit("cpu", mode)
    for name in ("model", "vendor"):
        if guest.xml.find(f"cpu/{name}") is not None:
            yield drop(f"cpu/{name}")
    # Features that the model lacked come with the host's processor, or it cannot have them.
    for feature in guest.xml.iterfind("cpu/feature"):
        if feature.get("policy", "require") not in OFF and feature.get("name") != "topoext":
            yield drop(f"cpu/feature[@name='{feature.get('name')}']")


@guest_rule(
    "cpu-address-width",
    "error",
    why="A guest's UEFI puts 64-bit BARs, and so the shared memory, at the top of the addresses "
    "that its processor has. Intel's desktop processors may have 46 bits, and their IOMMU only 39. "
    "QEMU maps shared memory for the passed devices as well, and ends if it cannot: 'vfio: DMA "
    "mapping failed, unable to continue'.",
    source="edk2's PlatformInitLib, PlatformDynamicMmioWindow (since 2022-11); QEMU's hw/vfio, "
    "vfio_listener_region_add; "
    "https://libvirt.org/formatdomain.html#cpu-model-and-topology, maxphysaddr (limit: since 9.3)",
    sure="likely",
)
def address_width(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_told(guest) or mode_of(guest) not in WHOLE:
        return
    do = _old_libvirt(patient.host)
    for edit in _narrowed(patient, guest):
        yield Seen(
            f"the guest has shared memory and {processor.address_bits(patient.host)} bits of "
            f"addresses, but the IOMMU of its passed devices has {edit.attributes['limit']}",
            do,
            edits=(edit,),
            by_hand=bool(do),
        )


def _narrowed(patient: Patient, guest: Guest) -> Iterator[Edit]:
    """What keeps the guest's addresses within those of the IOMMU, if that matters for it."""
    host = patient.host
    loader = attribute(guest, "os/loader", "type")
    is_uefi = attribute(guest, "os", "firmware") == "efi" or loader == "pflash"
    widths = [width for one in passed(patient, guest) if (width := iommu_width(host, one.address))]
    if not (is_uefi and widths and guest.domain.shared):
        return
    if any("host-phys-bits-limit" in one for one in arguments(guest)):
        return
    own = min(processor.address_bits(host) or 0, _UEFI_BITS)
    # The bits of mode='emulate' have no effect: with the host's processor, QEMU takes its address
    # bits as well (host-phys-bits), and only a limit reduces them.
    own = min(own, whole(attribute(guest, "cpu/maxphysaddr", "limit"), own))
    if own > min(widths):
        limit = {"mode": "passthrough", "limit": str(min(widths)), "bits": None}
        yield Edit("cpu/maxphysaddr", limit)


def _old_libvirt(host: Host) -> str:
    """What to do where libvirt refuses <maxphysaddr limit>; "" where it does not, as far as known.
    Debian 12 has libvirt 9.0."""
    if '"limit"' in (host.maybe(_SCHEMA) or '"limit"'):
        return ""
    return (
        "libvirt before 9.3 does not know this limit: update it, or set QEMU's "
        "host-phys-bits-limit in <qemu:commandline>"
    )


@guest_rule(
    "cpu-migratable",
    "hint",
    why="A migratable processor lacks the invariant time stamp counter, so a guest may use a "
    "slower clock. A VM that is not migratable cannot be saved, but neither can any VM with "
    "passed devices.",
    source="QEMU's target/i386/cpu.c, unmigratable_flags; "
    "https://libvirt.org/formatdomain.html#cpu-model-and-topology",
    sure="possible",
)
def migratable(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_told(guest) or mode_of(guest) != "host-passthrough" or not is_tuned(patient, guest):
        return
    # invtsc can also be asked for by name, and Windows does not need it: it has hypervclock.
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
    why="Without this, QEMU invents the caches, and the guest's scheduler has wrong ideas of "
    "which CPUs share a level 3 cache.",
    source="cpu-model-and-topology",
    sure="likely",
)
def cache(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if not is_told(guest) or mode_of(guest) not in WHOLE or is_macos(guest):
        return
    if is_tuned(patient, guest) and guest.xml.find("cpu/cache") is None:
        yield Seen(
            "the guest sees caches that QEMU made up",
            edits=(put("cpu/cache", mode="passthrough"),),
        )


@guest_rule(
    "cpu-x2apic-off",
    "hint",
    why="Without x2APIC each of the guest's accesses to its interrupt controller goes through "
    "memory that KVM emulates. It is better off only with AVIC on an older AMD processor.",
    source="QEMU's docs/system/i386/hyperv.rst and Linux's avic.c",
    sure="likely",
)
def x2apic(patient: Patient, guest: Guest) -> Iterator[Seen]:
    avic = module_parameter(patient.host, "kvm_amd", "avic") in ("Y", "1")
    if is_told(guest) and policy(guest, "x2apic") in OFF and not avic:
        yield Seen("x2apic is switched off", "remove <feature policy='disable' name='x2apic'/>")


RULES = (override, no_hypervisor, mode, address_width, cache, x2apic, migratable)
