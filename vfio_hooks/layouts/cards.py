"""Which outputs of a screen are on a graphics card.

Wayland's compositors use the kernel's names for connectors, but GNOME calls HDMI-A-1 HDMI-1. On X11
the drivers choose the names: modesetting uses GNOME's, and amdgpu calls the first ones HDMI-A-0 and
DisplayPort-0. For all cards but the first, X11 inserts the card's number: DisplayPort-2-3. It also
has the monitors' EDIDs, which are better evidence, unless the monitors are identical.
"""

import re
from collections.abc import Iterable

from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.drm import Connector, connector_names
from vfio_hooks.layouts.layout import Screen
from vfio_hooks.layouts.xrandr import Provider

# How X11's drivers call the connectors of a kind, and by how much their numbers are lower.
_CALLED = {"HDMI-A": (("HDMI-A", 1), ("HDMI", 0)), "DP": (("DisplayPort", 1), ("DP", 0))}


def outputs_on(
    screen: Screen,
    connectors: list[Connector],
    back_end: str,
    named: Iterable[str] = (),
    elsewhere: Iterable[str] = (),
) -> list[str]:
    """The names of the outputs that are on these connectors. `elsewhere` are other cards'
    connectors, from connectors_elsewhere. Raises HookError if an output could be any of several, of
    which the user has `named` none."""
    found: set[str] = set()
    others = {_own_name(name, "mutter") for name in elsewhere}
    names = {name for name in screen.layout.names if _without_card(name) not in others}
    for connector in connectors:
        if connector.connected and back_end == "xrandr":
            found |= _output_on(screen, names, connector, set(named))
        elif connector.connected:
            found.add(_own_name(connector.name, back_end))
    return sorted(found & screen.layout.names)


def connectors_elsewhere(host: Host, drawing: list[Provider], own: list[Connector]) -> set[str]:
    """The names of all connectors but a card's `own`, if X11 draws on all cards with the driver
    modesetting, whose outputs have the kernel's numbers; else none. These numbers are unique among
    all cards, so they tell even identical monitors apart."""
    if any(one.name != "modesetting" for one in drawing) or not drawing:
        return set()
    return connector_names(host) - {one.name for one in own}


def is_on_first_card(output: str) -> bool:
    """Whether an X11 output has no card's number in its name, as only the X server's own have."""
    return _without_card(output) == output


def _without_card(output: str) -> str:
    """The name of an X11 output without its card's number."""
    return re.sub(r"-\d+(-\d+)$", r"\1", output)


def _own_name(connector: str, back_end: str) -> str:
    return connector.replace("HDMI-A-", "HDMI-") if back_end == "mutter" else connector


def _output_on(screen: Screen, names: set[str], connector: Connector, named: set[str]) -> set[str]:
    edids = {name: screen.edids.get(name, "") for name in names}
    alike = {name for name, edid in edids.items() if edid and edid == connector.edid}
    # An output with another monitor's EDID is another output, whatever its name is.
    unknown = {name for name, edid in edids.items() if not (edid and connector.edid)}
    called = {name for name in edids if _may_be_called(name, connector.name)}
    fitting = (alike & called) or alike or (unknown & called)
    if len(fitting) > 1 and not fitting & named:
        raise HookError(
            f"{connector.name} of the passed card may be any one of {', '.join(sorted(fitting))}",
            "name the outputs of the passed card: off = [...]",
        )
    return fitting & named if len(fitting) > 1 else fitting


def _may_be_called(output: str, connector: str) -> bool:
    kind, _, number = connector.rpartition("-")
    # nvidia's driver and radeon count HDMI and DP from 0. Drivers that count from 1 have no 0.
    zero = "|0" if number == "1" else ""
    return any(
        re.fullmatch(rf"{re.escape(called)}-(?:\d+-)?(?:{int(number) - less}{zero})", output)
        for called, less in _CALLED.get(kind, ((kind, 0), (kind, 1)))
    )
