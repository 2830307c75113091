"""The daemon that switches power profiles: power-profiles-daemon, or tuned's tuned-ppd.

https://upower.pages.freedesktop.org/power-profiles-daemon/
"""

from __future__ import annotations

import re

from vfio_hooks.errors import HookError, Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host, WritableHost

NAMES = ("org.freedesktop.UPower.PowerProfiles", "net.hadess.PowerProfiles")
"""On the message bus; the second one is all that power-profiles-daemon had before 0.20. The object
and the interface have the same name."""
TUNED = "com.redhat.tuned"
"""What tuned-ppd passes each profile on to."""
UNIT = "vfio-hooks-profile-"
"""The beginning of the names of our services, and of the folder in /run that each has."""
NOT_HELD = 2
"""The exit code of our service if the daemon refuses. systemd then does not try again."""
_ACTIVATION = "/usr/share/dbus-1/system-services/{}.service"


def none() -> HookError:
    """The failure if there is no such daemon."""
    return HookError(
        "no daemon of this host has power profiles",
        "install power-profiles-daemon or tuned-ppd, or remove power_profile from [governor]",
    )


def check(host: Host, profile: str) -> None:
    """Raise HookError if no daemon has this profile. A daemon that does not run is not started for
    this: its profiles are seen when the profile is held."""
    if not host.is_this_machine:
        return
    for name in NAMES:
        try:
            text = _properties(host, name, "--auto-start=no", "Profiles")
        except HookError:
            continue
        # aa{sv} 3 2 "Profile" s "power-saver" "Driver" s "fake" ...
        if profile in (there := re.findall(r'"Profile" s "([^"]*)"', text)):
            return
        raise HookError(
            f"this host has no power profile {profile}, only {', '.join(there)}",
            "remove power_profile from [governor]",
        )
    if not any(host.exists(_ACTIVATION.format(name)) for name in NAMES):
        raise none()


def chosen(host: Host, name: str) -> str | None:
    """The active profile of the daemon with this name; None if a program holds one. Raises
    HookError."""
    # s "balanced", and aa{sv} 0
    text = _properties(host, name, "--auto-start=yes", "ActiveProfile", "ActiveProfileHolds")
    profile, holds = text.splitlines()
    return profile.split('"')[1] if holds.split()[1] == "0" else None


def choose(host: WritableHost, name: str, profile: str) -> None:
    """Choose a profile, as a person does on the desktop's panel. Raises HookError."""
    host.run(["busctl", "--system", "set-property", *_place(name), "ActiveProfile", "s", profile])


def tuned(host: Host) -> str:
    """The last profile that tuned was told to set, which it may not have finished; "" if tuned does
    not run. These are profiles of its own, such as "throughput-performance"."""
    place = (TUNED, "/Tuned", f"{TUNED}.control", "active_profile")
    try:
        # s "throughput-performance"
        return host.show(["busctl", "--system", "--auto-start=no", "call", *place]).split('"')[1]
    except Interrupted:
        raise
    except HookError:
        return ""


def _properties(host: Host, name: str, starts: str, *properties: str) -> str:
    return host.show(["busctl", "--system", starts, "get-property", *_place(name), *properties])


def _place(name: str) -> tuple[str, str, str]:
    return name, "/" + name.replace(".", "/"), name
