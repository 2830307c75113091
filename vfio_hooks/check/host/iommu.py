"""The IOMMU: on, in which mode, and whether it remaps interrupts.

https://docs.kernel.org/admin-guide/kernel-parameters.html: amd_iommu=, intel_iommu=, iommu=
"""

import re
from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import Host, boot
from vfio_hooks.host.pci import GROUPS
from vfio_hooks.host.processor import AMD, INTEL, vendor

_TABLES = {"DMAR": "intel_iommu=on", "IVRS": ""}
"""The ACPI tables of Intel's and of AMD's IOMMU, with the kernel parameter that it may need."""
_PARAMETERS = "kernel-parameters.rst of Linux"


@rule(
    "iommu-off",
    "host",
    "error",
    why="Without an IOMMU no device can be given to a VM: VFIO has no groups to work with.",
    source="https://docs.kernel.org/driver-api/vfio.html",
)
def off(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    # A captured host may lack the folder; a kernel that cannot have an IOMMU does as well.
    seen = host.exists(GROUPS) or host.exists("/sys/module")
    if not seen or not host.names("/sys/bus/pci/devices") or host.names(GROUPS):
        return
    tables = [name for name in _TABLES if host.exists(f"/sys/firmware/acpi/tables/{name}")]
    if not tables:
        what = "and the firmware shows no IOMMU (no ACPI table DMAR or IVRS)"
        do = "switch on IOMMU (VT-d, AMD-Vi, often with SVM or VT-x) in the firmware's setup"
        if vendor(host) != AMD:
            do += "; with an Intel CPU, also add to the kernel's command line: intel_iommu=on"
    else:
        what = f"though the firmware has one (ACPI table {tables[0]})"
        wanted = _TABLES[tables[0]]
        do = f"add to the kernel's command line: {wanted}" if wanted else _TAKE_AWAY
    yield Seen(f"this host has no IOMMU groups, {what}", do)


_TAKE_AWAY = "remove amd_iommu=off and iommu=off from the kernel's command line"


@rule(
    "iommu-translates-host",
    "host",
    "hint",
    why="The host's own devices do not need their addresses translated. Without that (iommu=pt) "
    "each of their transfers is a little cheaper. Passed devices are isolated either way. "
    "Keep the translation if you do not trust the host's own devices, such as those in a "
    "Thunderbolt port.",
    source=f"{_PARAMETERS}, iommu=pt; guide: Boot and Kernel Parameters",
)
def translates(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    groups = host.names(GROUPS)
    kinds = [host.maybe(f"{GROUPS}/{group}/type") or "" for group in groups]
    translated = sum(kind.startswith("DMA") for kind in kinds)
    if translated:
        yield Seen(
            f"{translated} of {len(groups)} IOMMU groups translate the addresses of the host's "
            "own transfers",
            "add to the kernel's command line: iommu=pt",
        )


@rule(
    "iommu-parameter-without-effect",
    "host",
    "hint",
    why="The kernel does not know this value, or it is for another maker's processors. AMD's "
    "IOMMU needs no parameter. In some kernels Intel's needs intel_iommu=on; without it, "
    "Debian's kernel leaves out the integrated graphics.",
    source=f"{_PARAMETERS}, amd_iommu= and intel_iommu=",
)
def without_effect(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    maker = _maker(host)
    for name, value in boot.parameters(host):
        other = {"amd_iommu": INTEL, "intel_iommu": AMD}.get(name) == maker
        if other or (name, value) in (("amd_iommu", "on"), ("iommu", "on")):
            yield Seen(
                f"{name}={value} on the kernel's command line has no effect",
                f"remove it: {name}={value}",
            )


def _maker(host: Host) -> str:
    """Whose IOMMUs are in use, by their names; if there are none, whose processor it is."""
    units = host.names("/sys/class/iommu")
    for prefix, maker in (("dmar", INTEL), ("ivhd", AMD)):
        if any(unit.startswith(prefix) for unit in units):
            return maker
    return vendor(host)


@rule(
    "interrupt-remapping-off",
    "host",
    "error",
    why="VFIO gives a device to a VM only if the device cannot fake the host's interrupts, which "
    "needs an IOMMU that remaps interrupts.",
    source="vfio_iommu_type1.c of Linux, allow_unsafe_interrupts",
    sure="likely",
)
def no_remapping(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if host.names(GROUPS) and _remaps(host) is False and not _unsafe(host):
        yield Seen(
            "the IOMMU is on, but no interrupt is remapped (none has IR- in /proc/interrupts)",
            "remove intremap=off and nox2apic from the kernel's command line, and update the "
            "firmware; if nothing helps and you trust the guest, in /etc/modprobe.d/vfio.conf: "
            "options vfio_iommu_type1 allow_unsafe_interrupts=1",
        )


@rule(
    "unsafe-interrupts",
    "host",
    "warning",
    why="allow_unsafe_interrupts lets a guest send any interrupt to the host through its device. "
    "It is meant for an IOMMU that cannot remap interrupts, and makes nothing faster.",
    source="vfio_iommu_type1.c of Linux; guide: Boot and Kernel Parameters, which has it on",
)
def unsafe_interrupts(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if _unsafe(host) and _remaps(host) is not False:
        asked = boot.module_options(host, "vfio_iommu_type1")
        where = [place for name, _, place in asked if name == "allow_unsafe_interrupts"]
        where += ["the configuration of modprobe"]
        yield Seen(
            "allow_unsafe_interrupts is on, although the IOMMU remaps interrupts",
            f"remove vfio_iommu_type1's allow_unsafe_interrupts from {where[0]}",
        )


def _unsafe(host: Host) -> bool:
    return boot.module_parameter(host, "vfio_iommu_type1", "allow_unsafe_interrupts") == "Y"


def _remaps(host: Host) -> bool | None:
    """Whether interrupts are remapped, by the names of their chips; None if these are not the chips
    of a PC."""
    text = host.maybe("/proc/interrupts") or ""
    if not re.search(r"IO-APIC|PCI-MSI", text):
        return None
    return bool(re.search(r"\bIR-(IO-APIC|PCI-MSI)", text))


RULES = (off, no_remapping, unsafe_interrupts, translates, without_effect)
