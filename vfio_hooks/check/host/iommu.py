"""The IOMMU: on, in which mode, and its groups.

https://docs.kernel.org/admin-guide/kernel-parameters.html, intel_iommu=, amd_iommu= and iommu=
"""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule

_GROUPS = "/sys/kernel/iommu_groups"


@rule(
    "iommu-off",
    "host",
    "error",
    why="Without an IOMMU no device can be given to a VM: VFIO has no groups to work with.",
    source="https://docs.kernel.org/driver-api/vfio.html",
)
def off(patient: Patient) -> Iterator[Seen]:
    if not patient.host.names(_GROUPS):
        yield Seen(
            "this host has no IOMMU groups",
            "switch on VT-d or AMD-Vi (IOMMU) in the firmware's setup, and add to the kernel's "
            "command line: intel_iommu=on (AMD needs none)",
        )


RULES = (off,)
