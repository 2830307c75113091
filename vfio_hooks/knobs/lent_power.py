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
    """The power/control of a function that a VM gets. vfio-pci sets it to "auto" (it may sleep)
    when it takes a function, and to "on" when it lets go, whatever was there before: Linux's
    drivers/vfio/pci/vfio_pci_core.c. The value while the guest runs belongs to another claim."""

    kind = "lent-power"

    @property
    def key(self) -> str:
        return f"{self.path}, while lent"

    def _write(self, host: WritableHost, value: str) -> None:
        # This write needs the device's lock, which an unbind or probe that hangs also holds.
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
