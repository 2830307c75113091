"""The lowest or highest frequency that a CPU frequency policy may use."""

from __future__ import annotations

from vfio_hooks.knobs.file import File
from vfio_hooks.record import record


@record
class Frequency(File):
    """scaling_min_freq or scaling_max_freq, in kHz. The kernel accepts a write at once, but carries
    it out and shows it only a moment later. https://docs.kernel.org/admin-guide/pm/cpufreq.html"""

    seconds: float = 5
    kind = "frequency"

    @property
    def lag(self) -> float:
        return self.seconds
