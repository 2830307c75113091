"""The lowest or highest frequency of a CPU frequency policy."""

from __future__ import annotations

from vfio_hooks.errors import HookError
from vfio_hooks.knobs.file import File, write_file
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import WritableHost


@record
class Frequency(File):
    """scaling_min_freq or scaling_max_freq, in kHz. The kernel takes a write at once, and carries
    it out, and shows it, a moment later. https://docs.kernel.org/admin-guide/pm/cpufreq.html"""

    seconds: float = 5
    kind = "frequency"

    def write(self, host: WritableHost, value: str) -> None:
        write_file(host, self.path, value)
        if not until(lambda: self.read(host) == value, self.seconds):
            shown = self.read(host)
            raise HookError(f"{self.path}: wrote {value!r}, but the kernel shows {shown!r}")
