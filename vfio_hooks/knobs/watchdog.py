"""The kernel's lockup detectors."""

from __future__ import annotations

from vfio_hooks.knobs.file import File, write_file
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import WritableHost

BOTH = "/proc/sys/kernel/watchdog"


@record
class Watchdog(File):
    """nmi_watchdog or soft_watchdog, "1" or "0".

    https://docs.kernel.org/admin-guide/lockup-watchdogs.html. If /proc/sys/kernel/watchdog is read
    while both are off (as by sysctl -a), the kernel switches off that file's own setting, which is
    above both. It has to be switched on again first, with no such read in between.
    """

    kind = "watchdog"

    def _write(self, host: WritableHost, value: str) -> None:
        if value == "1":
            write_file(host, BOTH, "1")
        write_file(host, self.path, value)
