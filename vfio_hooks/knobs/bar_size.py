"""The size of one of a PCI function's memory windows (resizable BAR)."""

from __future__ import annotations

from vfio_hooks.errors import Gone, HookError
from vfio_hooks.host.pci import DEVICES, bar_size, is_for_guests
from vfio_hooks.knobs.base import FunctionKnob
from vfio_hooks.knobs.file import write_file
from vfio_hooks.knobs.pci_driver import Binding, PciDriver
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost


@record
class BarSize(FunctionKnob):
    """The size of BAR `bar` of a function, in MiB, a power of two.

    The kernel changes it only while the function has no driver, so vfio-pci is unbound for that
    moment and bound again. A driver of the host is not unbound: it would have mapped the window
    that it found, and amdgpu changes the size itself. The file takes the exponent of two:
    "resourceN_resize" in Documentation/ABI/testing/sysfs-bus-pci.
    """

    bar: int
    seconds: float = 30
    kind = "bar-size"
    atomic = False

    @property
    def key(self) -> str:
        return f"{DEVICES}/{self.address}/resource{self.bar}, MiB"

    def read(self, host: Host) -> str:
        size = bar_size(host, self.address, self.bar)
        if size is None:
            raise Gone(f"{self.address}: it has no BAR {self.bar}")
        return str(size)

    def _write(self, host: WritableHost, value: str) -> None:
        binding = PciDriver(self.address, self.seconds)
        before = binding.read(host)
        now = Binding.parse(before)
        if now.driver and not is_for_guests(now.driver):
            raise HookError(
                f"{self.address}: BAR {self.bar} cannot change while {now.driver} has the device"
            )
        binding.write(host, str(Binding(None, now.override)))
        try:
            path = f"{DEVICES}/{self.address}/resource{self.bar}_resize"
            write_file(host, path, str(int(value).bit_length() - 1))
        finally:
            binding.write(host, before)
