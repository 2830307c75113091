"""Other programs of the host that set what [governor] sets.

thermald is not one of them: it slows down CPUs that get too hot, and no table prevents that.
"""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.host import Host
from vfio_hooks.host.cgroup import ROOT
from vfio_hooks.record import record

_HOLD = 'in [governor] of vm.toml: power_profile = "performance", which is held while the VM runs'
_STOP = 'in vm.toml: [[service]] with unit = "{}"'


@record
class Rival:
    """A program that sets CPU frequencies: the services that it may run as, `when` it sets them,
    and what `helps`. If it leaves no process running, the file `sign` shows that it is in use."""

    name: str
    units: tuple[str, ...]
    when: str
    helps: str
    sign: str = ""


RIVALS = (
    # A desktop starts the first two again as soon as somebody asks for the profile.
    Rival(
        "power-profiles-daemon",
        ("power-profiles-daemon.service",),
        "whenever the power profile changes",
        _HOLD,
    ),
    Rival("tuned-ppd", ("tuned-ppd.service",), "whenever the power profile changes", _HOLD),
    Rival("tuned", ("tuned.service",), "whenever its profile changes or it restarts", _STOP),
    Rival(
        "auto-cpufreq",
        ("auto-cpufreq.service", "snap.auto-cpufreq.service.service"),
        "every few seconds",
        _STOP,
    ),
    Rival(
        "gamemode",
        ("gamemoded.service",),
        "when a game of the host begins and ends",
        "end such games before the VM starts, and begin none while it runs",
    ),
    Rival(
        "TLP",
        ("tlp.service",),
        "whenever the power source changes, and after a suspend",
        'in /etc/tlp.conf: CPU_SCALING_GOVERNOR_ON_AC="" and CPU_ENERGY_PERF_POLICY_ON_AC="", '
        "and the same with ON_BAT",
        # The power source that it last set the host for.
        "/run/tlp/last_pwr",
    ),
)


@rule(
    "governor-rivals",
    "host",
    "hint",
    why="[governor] sets the CPUs once, when the VM starts. If a program sets them later, the VM's "
    "CPUs may be slow from then on.",
    source="systemctl(1); the manuals of power-profiles-daemon, tuned, auto-cpufreq and gamemode; "
    "https://linrunner.de/tlp/settings/processor.html",
    sure="possible",
)
def rivals(patient: Patient) -> Iterator[Seen]:
    if "governor" not in patient.tables:
        return
    found = dict(_running(patient.host))
    is_held = getattr(patient.tables["governor"], "power_profile", None) is not None
    if "tuned-ppd.service" in found:
        # It is how the desktop speaks to tuned, and would start it again.
        found.pop("tuned.service", None)
    for unit, rival in found.items():
        if unit not in patient.stopped and not (is_held and rival.helps == _HOLD):
            yield Seen(
                f"{rival.name} is in use, and sets the frequencies of all CPUs {rival.when}",
                rival.helps.format(unit),
            )


def _running(host: Host) -> Iterator[tuple[str, Rival]]:
    """The rivals that are in use, each with its service."""
    folders = list(_folders(host))
    for rival in RIVALS:
        for unit in rival.units:
            signs = [rival.sign] if rival.sign else [f"{folder}/{unit}" for folder in folders]
            if any(map(host.exists, signs)):
                yield unit, rival


def _folders(host: Host) -> Iterator[str]:
    """Where services that run have their control groups: the system's, and those of users."""
    for top in (ROOT, f"{ROOT}/systemd"):
        yield f"{top}/system.slice"
        for user in host.names(f"{top}/user.slice"):
            number = user.removeprefix("user-").removesuffix(".slice")
            manager = f"{top}/user.slice/{user}/user@{number}.service"
            yield from (manager, f"{manager}/app.slice")


RULES = (rivals,)
