"""What power/control of a PCI function is, which vfio-pci changes."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.host.in_use import stuck_writer
from vfio_hooks.host.pci import is_for_guests
from vfio_hooks.knobs.file import File
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class LentPower(File):
    """The power/control of a function that a VM gets. vfio-pci lets one that no guest uses sleep
    ("auto"), and when it lets go it forbids that ("on"), whatever was before: Linux's
    drivers/vfio/pci/vfio_pci_core.c. What it is while the guest runs is another claim's."""

    kind = "lent-power"

    @property
    def key(self) -> str:
        return f"{self.path}, while lent"

    def _write(self, host: WritableHost, value: str) -> None:
        # The kernel takes the device's lock for this, as an unbind or probe that hangs has it.
        address = self.path.split("/")[-3]
        if (pid := stuck_writer(host, address)) is not None:
            raise HookError(
                f"{self.path}: this was not set, because pid {pid} still waits in the kernel for "
                f"{address}",
                "when that process has ended: vfio-hooks undo --all",
            )
        super()._write(host, value)

    def is_back(self, host: Host, base: str) -> bool:
        driver = host.link(f"{self.path.removesuffix('/power/control')}/driver")
        return driver is not None and not is_for_guests(driver)

    def is_lent(self, live: str, base: str, value: str | None) -> bool:
        return True
