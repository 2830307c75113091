"""How a CPU that chooses its own frequency weighs speed against power."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Gone, HookError, Immovable
from vfio_hooks.host import Host, WritableHost, refused
from vfio_hooks.knobs.file import File
from vfio_hooks.record import record


@record
class EnergyPreference(File):
    """An energy_performance_preference file.

    Drivers in active mode hold it at "performance" while the governor is performance. amd-pstate
    shows none if it has no name for the firmware's value.
    https://docs.kernel.org/admin-guide/pm/intel_pstate.html and amd-pstate.html
    """

    kind = "epp"

    def read(self, host: Host) -> str:
        try:
            host.read(self.path)
        except OSError as error:
            if error.errno == errno.EINVAL:
                raise HookError(
                    f"{self.path}: the driver has no name for the current preference, so it "
                    f"could not be restored",
                    "write one of energy_performance_available_preferences there after boot",
                ) from None
        return super().read(host)

    def _write(self, host: WritableHost, value: str) -> None:
        try:
            host.write(self.path, value)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Immovable(
                    f"{self.path}: the driver keeps it at performance because of the governor "
                    f"performance"
                ) from None
            if error.errno in (errno.ENOENT, errno.ENODEV):
                raise Gone(f"{self.path}: no such file on this host") from None
            raise refused(f"write {value!r}", self.path, error) from None
