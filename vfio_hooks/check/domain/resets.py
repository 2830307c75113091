"""Whether passed cards can be reset: all functions of a slot given, and a way that works."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import Passed, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.host import Host, pci
from vfio_hooks.host.modules import is_loaded
from vfio_hooks.plugins.gpu import Options


@guest_rule(
    "device-function-left",
    "warning",
    why="Without a reset of its own a card is reset with its whole slot, and VFIO does that only "
    "for who has all functions of it. Else QEMU says 'Cannot reset device', and the card may not "
    "start a second time.",
    source="QEMU's hw/vfio/pci.c, depends on group; Linux's vfio_pci_core.c, hot reset",
    sure="likely",
)
def left(patient: Patient, guest: Guest) -> Iterator[Seen]:
    devices = passed(patient, guest)
    given = {one.address for one in devices}
    seen = set[str]()
    for device in devices:
        if device.is_virtual or device.is_of_chipset or device.card in seen:
            continue
        seen.add(device.card)
        others = [
            one
            for one in _slot(patient.host, device)
            if one not in given
            and _group(patient.host, one) != _group(patient.host, device.address)
        ]
        # A kernel before 5.15 does not tell; most other devices than graphics cards can.
        is_told = device.is_gpu or patient.host.exists(
            f"{pci.DEVICES}/{device.address}/reset_method"
        )
        if others and is_told and not _resets_alone(patient.host, device):
            yield Seen(
                f"{device} is passed, and {', '.join(others)} of its slot not, in another IOMMU "
                "group",
                f"pass {'it' if len(others) == 1 else 'them'} as well: <hostdev mode='subsystem' "
                "type='pci' managed='yes'>",
            )


def _slot(host: Host, device: Passed) -> list[str]:
    return [one for one in host.names(pci.DEVICES) if pci.card(one) == device.card]


def _group(host: Host, address: str) -> str | None:
    return host.link(f"{pci.DEVICES}/{address}/iommu_group")


def _resets_alone(host: Host, device: Passed) -> bool:
    methods = (host.maybe(f"{pci.DEVICES}/{device.address}/reset_method") or "").split()
    return bool({"flr", "af_flr", "device_specific"} & set(methods))


@guest_rule(
    "device-reset-method",
    "warning",
    why="The kernel refuses a reset method that it does not have for a card; device_specific "
    "comes for AMD's older cards from the module vendor-reset alone.",
    source="https://docs.kernel.org/admin-guide/abi-testing.html, reset_method",
)
def method(patient: Patient, guest: Guest) -> Iterator[Seen]:
    options = patient.tables.get("gpu")
    wanted = options.reset_method if isinstance(options, Options) else None
    if not wanted:
        return
    for device in passed(patient, guest):
        known = patient.host.maybe(f"{pci.DEVICES}/{device.address}/reset_method")
        if not device.is_gpu or known is None or set(wanted.split()) <= set(known.split()):
            continue
        vendor = "device_specific" in wanted and not is_loaded(patient.host, "vendor_reset")
        yield Seen(
            f'[gpu] has reset_method = "{wanted}", and the kernel knows for {device.address} '
            f"{known or 'none'}",
            "load the module vendor-reset (its DKMS package), before the VM starts"
            if vendor
            else "take one of these, or leave it to the kernel",
        )


RULES = (left, method)
