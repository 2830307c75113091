"""The service that holds a power profile while a VM runs."""

from vfio_hooks import services
from vfio_hooks.domain import Domain
from vfio_hooks.host import Host
from vfio_hooks.host.power_profiles import NOT_HELD, UNIT, check
from vfio_hooks.knobs.transient import Transient
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step


def held(domain: Domain, profile: str, host: Host) -> Step:
    """The step that starts it. Raises HookError if no daemon of this host has the profile."""
    check(host, profile)
    unit = f"{UNIT}{domain.uuid}"
    knob = Transient(
        f"{unit}.service",
        services.argv("vfio_hooks.services.profile", services.pidfile(domain.name), profile),
        (
            f"Description=Power profile of VM {domain.name}",
            # The profile is set when the service is ready.
            "Type=notify",
            "Restart=on-failure",
            f"RestartPreventExitStatus={NOT_HELD}",
            # Where it notes the profile from before, also for itself when it was killed.
            f"RuntimeDirectory={unit}",
            "RuntimeDirectoryPreserve=restart",
        ),
        # It waits for tuned.
        seconds=30,
        title=f"holds the power profile {profile}",
    )
    return Step("governor", knob, Override(knob.value))
