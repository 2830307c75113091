"""What power/control of a PCI function is, which vfio-pci changes."""

from dataclasses import dataclass
from typing import ClassVar

from vfio_hooks.knobs.file import File


@dataclass(frozen=True)
class LentPower(File):
    """The power/control of a function that a VM gets. vfio-pci lets one that no guest uses sleep
    ("auto"), and when it lets go it forbids that ("on"), whatever was before: Linux's
    drivers/vfio/pci/vfio_pci_core.c. What it is while the guest runs is another claim's."""

    kind: ClassVar[str] = "lent-power"

    @property
    def key(self) -> str:
        return f"{self.path}, while lent"

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        return True
