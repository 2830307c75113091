"""The connectors of graphics cards, as the kernel's DRM shows them in sysfs.

https://docs.kernel.org/gpu/drm-uapi.html
"""

from __future__ import annotations

import re

from vfio_hooks.host.pci import DEVICES
from vfio_hooks.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.host import Host


@record
class Connector:
    """A connector for a monitor. The kernel's `name`, "HDMI-A-1", is unique among all cards. `edid`
    is the monitor's description in hex, empty if no monitor is connected."""

    name: str
    connected: bool
    edid: str = ""


def connectors(host: Host, address: str) -> list[Connector]:
    """The connectors of a graphics card; none if its driver is no DRM driver."""
    found = []
    for card in host.names(f"{DEVICES}/{address}/drm"):
        folder = f"{DEVICES}/{address}/drm/{card}"
        for name in host.names(folder):
            if re.fullmatch(rf"{card}-.+-\d+", name):
                connected = host.maybe(f"{folder}/{name}/status") == "connected"
                edid = _hex(host.path(f"{folder}/{name}/edid"))
                found.append(Connector(name.removeprefix(f"{card}-"), connected, edid))
    return found


def connector_names(host: Host) -> set[str]:
    """The names of the connectors of all graphics cards."""
    found = (re.fullmatch(r"card\d+-(.+-\d+)", name) for name in host.names("/sys/class/drm"))
    return {one[1] for one in found if one}


def _hex(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.read().hex()
    except OSError:
        return ""
