"""Which outputs of a screen hang on a graphics card.

The kernel and the display servers have a name of their own for a connector: the kernel's HDMI-A-1
is HDMI-1 for X11's modesetting driver and for GNOME, and HDMI-A-0 for X11's amdgpu. X11 puts the
number of the card in between for all but the first: DisplayPort-2-3. The EDID is the monitor's
own, and so the better proof.
"""

import re

from vfio_hooks.errors import HookError
from vfio_hooks.host.drm import Connector
from vfio_hooks.layouts.layout import Screen

_TYPES = {"HDMI-A": ("HDMI-A", "HDMI"), "DP": ("DP", "DisplayPort")}


def outputs_on(screen: Screen, connectors: list[Connector]) -> list[str]:
    """The names of the outputs that are on these connectors. Raises HookError where two could be
    the same one."""
    found = []
    for connector in connectors:
        if connector.connected:
            found += _output_on(screen, connector)
    return sorted(set(found))


def is_on_first_card(output: str) -> bool:
    """Whether an X11 output has no card's number in its name, as only the X server's own have."""
    return re.search(r"-\d+-\d+$", output) is None


def _output_on(screen: Screen, connector: Connector) -> list[str]:
    names = screen.layout.names
    if connector.name in names and not screen.edids:
        return [connector.name]
    alike = {name for name in names if connector.edid and screen.edids.get(name) == connector.edid}
    called = {name for name in names if _may_be_called(name, connector.name)}
    fitting = sorted((alike & called) or alike or called)
    if len(fitting) > 1:
        raise HookError(
            f"display: {connector.name} of the passed card may be any of {', '.join(fitting)}",
            "name the outputs that are on it: off = [...]",
        )
    return fitting


def _may_be_called(output: str, connector: str) -> bool:
    kind, _, number = connector.rpartition("-")
    numbers = f"{int(number)}|{int(number) - 1}"
    kinds = "|".join(map(re.escape, _TYPES.get(kind, (kind,))))
    return re.fullmatch(rf"(?:{kinds})-(?:\d+-)?(?:{numbers})", output) is not None
