"""Whether passed cards can be reset and wake up: all functions of a slot passed, and a method that
works."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import Passed, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, pci
from vfio_hooks.host.boot import lines
from vfio_hooks.host.modules import is_loaded
from vfio_hooks.plugins.gpu import Options
from vfio_hooks.plural import verb
from vfio_hooks.why import explain
from vfio_hooks.why.lines import QEMU_LOGS, qemu_log

_AMD = "1002"
_MODULE = "vendor_reset"
_OWN_RESETS = frozenset({"flr", "af_flr", "device_specific"})


@guest_rule(
    "device-function-left",
    "warning",
    why="A card without a reset of its own is reset together with its whole slot. VFIO does that "
    "only for a VM that has all functions in the slot. Otherwise QEMU says 'Cannot reset "
    "device', and the card may not start a second time.",
    source="QEMU's hw/vfio/pci.c, depends on group; Linux's vfio_pci_core.c, hot reset",
    sure="likely",
)
def left(patient: Patient, guest: Guest) -> Iterator[Seen]:
    host = patient.host
    for device in _cards(patient, guest):
        others = [
            one.address
            for one in _left_out(patient, guest, device)
            if _is_same_card(one, device) and one.group != _group(host, device)
        ]
        if device.is_of_chipset:
            continue
        # Kernels before 5.15 do not say. Most devices but graphics cards can be reset.
        is_told = device.is_gpu or host.exists(_methods_file(device))
        if others and is_told and not _OWN_RESETS & set(_methods(host, device)):
            yield Seen(
                f"{device} is passed, but {', '.join(others)} in its slot {verb(len(others))} not, "
                f"and {verb(len(others), 'has', 'have')} another IOMMU group",
                f"pass {verb(len(others), 'it', 'them')} as well: <hostdev mode='subsystem' "
                "type='pci' managed='yes'>",
            )


@guest_rule(
    "device-no-reset",
    "warning",
    why="A graphics card that nothing can reset reaches each guest in the state in which the "
    "previous one left it. After a guest that crashed or was switched off, it often stays dark.",
    source="https://docs.kernel.org/admin-guide/abi-testing.html, reset_method; Linux's "
    "drivers/pci/pci.c, pci_reset_bus_function",
    sure="likely",
)
def no_reset(patient: Patient, guest: Guest) -> Iterator[Seen]:
    host = patient.host
    for device in _cards(patient, guest):
        if not device.is_gpu or _methods(host, device):
            continue
        of_processor = [
            one.address
            for one in _left_out(patient, guest, device)
            if not _is_same_card(one, device)
        ]
        slot = [one for one in host.names(pci.DEVICES) if pci.card(one) == device.card]
        # With all of its functions, a card is reset by the port above it. A lone one would have
        # "bus" in the file, which is there only where there is a method.
        is_stuck = _tells_resets(host) and (device.is_of_chipset or len(slot) == 1)
        if of_processor:
            text = f"{device} is part of the processor, with {', '.join(of_processor)}, and the"
            text += " kernel cannot reset it alone"
        elif is_stuck:
            text = f"the kernel has no way to reset {device}"
        else:
            continue
        yield Seen(
            text,
            "shut the guest down from inside, never switch it off; should the card then stay dark, "
            "suspend and wake the host, or reboot it",
        )


@guest_rule(
    "device-reset-method",
    "warning",
    why="The kernel refuses a reset method that it does not have for a card. For AMD's older "
    "cards only the module vendor-reset provides device_specific.",
    source="https://docs.kernel.org/admin-guide/abi-testing.html, reset_method",
)
def method(patient: Patient, guest: Guest) -> Iterator[Seen]:
    wanted = _wanted(patient).split()
    # Once it is loaded, vendor-reset's method can be asked for, but is not listed before.
    if "device_specific" in wanted and is_loaded(patient.host, _MODULE):
        wanted.remove("device_specific")
    for device in passed(patient, guest):
        known = patient.host.maybe(_methods_file(device))
        if not device.is_gpu or known is None or set(wanted) <= set(known.split()):
            continue
        yield Seen(
            f'[gpu] has reset_method = "{_wanted(patient)}", but for {device.address} the kernel '
            f"has {known or 'no method'}",
            "load the module vendor-reset (its DKMS package), before the VM starts"
            if "device_specific" in wanted
            else "choose one of these, or remove reset_method, so that the kernel chooses",
        )


@guest_rule(
    "device-vendor-reset",
    "warning",
    why="The module vendor-reset can reset older graphics cards of AMD. Since Linux 5.15 it does "
    "so only where its method, device_specific, is asked for.",
    source="https://github.com/gnif/vendor-reset; "
    "https://docs.kernel.org/admin-guide/abi-testing.html, reset_method",
    sure="likely",
)
def vendor_reset(patient: Patient, guest: Guest) -> Iterator[Seen]:
    host = patient.host
    cards = [
        one
        for one in _cards(patient, guest)
        if one.is_gpu and one.vendor == _AMD and not _OWN_RESETS & set(_methods(host, one))
    ]
    if not cards or "device_specific" in _wanted(patient):
        return
    if is_loaded(host, _MODULE):
        if _tells_resets(host):
            yield Seen(
                f"vendor-reset is loaded, but not used for {cards[0]}",
                'in vm.toml, below [gpu]: reset_method = "device_specific"',
            )
    elif (place := _asked_for(host)) and host.names("/sys/module"):
        yield Seen(
            f"{place} asks for vendor-reset, which is not loaded",
            "dkms status shows whether it was built for this kernel; then: modprobe vendor-reset",
        )


def _asked_for(host: Host) -> str | None:
    """The file that has vendor-reset loaded at boot."""
    folder = "/etc/modules-load.d"
    for path in ("/etc/modules", *(f"{folder}/{name}" for name in host.names(folder))):
        for words in lines(host.maybe(path) or ""):
            if words[0].replace("-", "_") == _MODULE:
                return path
    return None


@guest_rule(
    "device-d3cold",
    "warning",
    why="Without power (D3cold) a card has to be woken by its port, and some cards and boards "
    "cannot do that. The guest then has a card that does not answer.",
    source="QEMU's hw/vfio/pci.c, stuck in D3; vfio-hooks.toml(5), [gpu]",
    sure="likely",
)
def d3cold(patient: Patient, guest: Guest) -> Iterator[Seen]:
    options = patient.tables.get("gpu")
    if isinstance(options, Options) and options.d3cold is False:
        return
    try:
        told = explain(qemu_log(guest.domain.name, patient.host.path(QEMU_LOGS)))
    except HookError:  # only root can read it
        return
    if any(one.known and one.known.name == "stuck-in-d3" for one in told):
        yield Seen(
            "at the last start a passed device did not wake up (QEMU: 'stuck in D3')",
            "reboot the host; then, in vm.toml below [gpu]: d3cold = false",
        )


def _cards(patient: Patient, guest: Guest) -> list[Passed]:
    """The first passed function of each card. VFs are left out, and so is all of the chipset except
    its graphics."""
    found: dict[str, Passed] = {}
    for device in passed(patient, guest):
        if not device.is_virtual and (not device.is_of_chipset or device.is_gpu):
            found.setdefault(device.card, device)
    return list(found.values())


def _left_out(patient: Patient, guest: Guest, device: Passed) -> list[pci.Function]:
    """The other functions of a device's slot that the guest is not given."""
    given = {one.address for one in passed(patient, guest)}
    found = (
        pci.function(patient.host, one)
        for one in patient.host.names(pci.DEVICES)
        if pci.card(one) == device.card and one not in given
    )
    return [one for one in found if one is not None]


def _is_same_card(other: pci.Function, device: Passed) -> bool:
    """Whether two functions of a slot are of one card. AMD's processors have their graphics in one
    slot with a coprocessor and USB controllers, which have another maker's number."""
    return other.ids.partition(":")[0] == device.vendor


def _group(host: Host, device: Passed) -> str | None:
    return host.link(f"{pci.DEVICES}/{device.address}/iommu_group")


def _methods_file(device: Passed) -> str:
    return f"{pci.DEVICES}/{device.address}/reset_method"


def _methods(host: Host, device: Passed) -> list[str]:
    return (host.maybe(_methods_file(device)) or "").split()


def _tells_resets(host: Host) -> bool:
    """Whether the kernel shows how each device is reset (since Linux 5.15)."""
    return any(host.exists(f"{pci.DEVICES}/{one}/reset_method") for one in host.names(pci.DEVICES))


def _wanted(patient: Patient) -> str:
    options = patient.tables.get("gpu")
    return (options.reset_method or "") if isinstance(options, Options) else ""


RULES = (left, no_reset, method, vendor_reset, d3cold)
