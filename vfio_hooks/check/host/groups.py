"""IOMMU groups: which devices cannot be isolated from a passed one."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import Host, boot, pci


@rule(
    "group-shared",
    "host",
    "error",
    why="A group is the smallest unit that the IOMMU can isolate. While the host uses one of its "
    "devices, VFIO gives none of them to a VM.",
    source="https://docs.kernel.org/driver-api/vfio.html, Groups, Devices, and IOMMUs",
)
def shared(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if patient.guest is None:
        return
    if getattr(patient.tables.get("pci"), "group", "") == "bind":
        return
    passed = {function.address for function in patient.guest.domain.pci}
    groups = {group for address in passed if (group := _group(host, address))}
    for group in sorted(groups, key=int):
        others = [
            other
            for other in pci.group_members(host, group)
            if other.address not in passed and other.is_hosts
        ]
        if others:
            mine = sorted(address for address in passed if _group(host, address) == group)
            apart = {pci.card(one.address) for one in others} - {pci.card(one) for one in mine}
            yield Seen(
                f"IOMMU group {group} has {', '.join(mine)} of this VM and "
                f"{', '.join(map(str, others))} of the host",
                "pass those to the VM, too\n"
                'or have the hook take them, in vm.toml, below [pci]: group = "bind"\n'
                + (
                    "or put the card into another slot: vfio-hooks iommu shows all groups"
                    if apart
                    else "Another slot does not help, because they are on the same card."
                ),
            )


@rule(
    "group-direct-mapping",
    "host",
    "error",
    why="The firmware keeps reaching memory through such a device, at addresses that a guest "
    "would use as well. So the kernel gives it to no guest: 'Firmware has requested this "
    "device have a 1:1 IOMMU mapping'.",
    source="Documentation/ABI/testing/sysfs-kernel-iommu_groups, reserved_regions; Intel VT-d "
    "specification, RMRR",
)
def direct_mapping(patient: Patient) -> Iterator[Seen]:
    for passed in patient.guest.domain.pci if patient.guest else ():
        if doubt := pci.direct_mapping(patient.host, passed.address):
            yield Seen(doubt.problem, doubt.hint)


@rule(
    "gpu-group-mixed",
    "host",
    "hint",
    why="To pass such a graphics card, you have to pass the other devices of its group as well.",
    source="https://docs.kernel.org/driver-api/vfio.html; guide: Host Configurations",
)
def mixed(patient: Patient) -> Iterator[Seen]:
    host = patient.host
    if patient.guest is not None:
        return
    for address in host.names(pci.DEVICES):
        if not (host.maybe(f"{pci.DEVICES}/{address}/class") or "").startswith(pci.DISPLAY_CLASS):
            continue
        group, slot = _group(host, address), pci.card(address)
        others = [
            other
            for other in (pci.group_members(host, group) if group else [])
            if not other.is_bridge and pci.card(other.address) != slot
        ]
        if others:
            yield Seen(
                f"graphics card {slot} shares IOMMU group {group} with "
                f"{', '.join(map(str, others))}",
                "to pass it alone, try another slot or newer firmware",
            )


@rule(
    "acs-override",
    "host",
    "warning",
    why="It makes the kernel believe that devices are isolated which are not. A VM's device can "
    "then write to one of the host's without the IOMMU noticing, and some boards stutter "
    "with it. Use it only for groups that you cannot use otherwise.",
    source="guide: Host Configurations; the patch's own text in pcie_acs_override=",
)
def acs_override(patient: Patient) -> Iterator[Seen]:
    for value in boot.values(patient.host, "pcie_acs_override"):
        yield Seen(
            f"pcie_acs_override={value} splits IOMMU groups, whatever the hardware can isolate",
            f"boot without it, and check with `vfio-hooks iommu` whether you need it: "
            f"pcie_acs_override={value}",
        )


def _group(host: Host, address: str) -> str | None:
    return host.link(f"{pci.DEVICES}/{address}/iommu_group")


RULES = (shared, direct_mapping, mixed, acs_override)
