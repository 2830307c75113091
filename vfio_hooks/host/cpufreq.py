"""CPU frequency policies, read from sysfs: CPUs that can only change their frequency together.

https://docs.kernel.org/admin-guide/pm/cpufreq.html
"""

from __future__ import annotations

from vfio_hooks.host.cpulist import CpuSet, parse_list
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host

FOLDER = "/sys/devices/system/cpu/cpufreq"
_SELF_GOVERNED = ("intel_pstate", "amd-pstate-epp")


@record
class Policy:
    """A policy with a CPU online. Frequencies are in kHz. `frequencies` are all there are; it is
    empty if the driver has a range without gaps. `preferences` are the values that
    energy_performance_preference accepts, without "default", which is never read back."""

    name: str
    cpus: CpuSet
    driver: str
    governor: str
    governors: tuple[str, ...]
    preferences: tuple[str, ...]
    frequencies: tuple[int, ...]
    lowest: int
    highest: int

    @property
    def is_self_governed(self) -> bool:
        """Whether the driver is in its active mode: it chooses frequencies itself, and knows just
        two modes, which have the names of governors. In "performance" it holds the energy
        preference at its own "performance", and refuses any other with EBUSY."""
        return self.driver in _SELF_GOVERNED

    def file(self, name: str) -> str:
        """The path of one of the policy's files."""
        return f"{FOLDER}/{self.name}/{name}"


def policies(host: Host) -> list[Policy]:
    """The policies that have values: a policy whose CPUs are all offline has none."""
    names = [name for name in host.names(FOLDER) if name.removeprefix("policy").isdecimal()]
    found = [_policy(host, name) for name in sorted(names, key=lambda one: int(one[6:]))]
    return [policy for policy in found if policy is not None]


def boost_switch(host: Host) -> tuple[str, bool] | None:
    """The file that switches turbo frequencies, for all CPUs, and whether "1" in it means off."""
    for path, inverted in (
        ("/sys/devices/system/cpu/intel_pstate/no_turbo", True),
        (f"{FOLDER}/boost", False),
    ):
        if host.exists(path):
            return path, inverted
    return None


def _policy(host: Host, name: str) -> Policy | None:
    folder = f"{FOLDER}/{name}"

    def words(file: str) -> tuple[str, ...]:
        return tuple((host.maybe(f"{folder}/{file}") or "").split())

    def number(file: str) -> int:
        text = host.maybe(f"{folder}/{file}") or ""
        return int(text) if text.isdecimal() else 0

    governor = host.maybe(f"{folder}/scaling_governor")
    if not governor or not words("affected_cpus"):
        return None
    return Policy(
        name=name,
        cpus=parse_list(",".join(words("related_cpus") or words("affected_cpus"))),
        driver=host.maybe(f"{folder}/scaling_driver") or "",
        governor=governor,
        governors=words("scaling_available_governors"),
        preferences=tuple(
            word for word in words("energy_performance_available_preferences") if word != "default"
        ),
        frequencies=tuple(sorted(map(int, words("scaling_available_frequencies")))),
        lowest=number("cpuinfo_min_freq"),
        highest=number("scaling_max_freq"),
    )
