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

    https://docs.kernel.org/admin-guide/lockup-watchdogs.html. Reading /proc/sys/kernel/watchdog
    while both are off (sysctl -a does) switches off what is above both: then neither can be
    switched on again before that is, and no read may come in between.
    """

    kind = "watchdog"

    def _write(self, host: WritableHost, value: str) -> None:
        if value == "1":
            write_file(host, BOTH, "1")
        write_file(host, self.path, value)
