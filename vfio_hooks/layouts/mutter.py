"""GNOME on Wayland, through the D-Bus interface org.gnome.Mutter.DisplayConfig.

busctl(1) is used for D-Bus, because every host with logind has it, and it answers in JSON. A layout
is set for this session only. GNOME does not remember it for these monitors.
"""

import json
from collections.abc import Iterator
from typing import Any

from vfio_hooks.layouts.layout import ROTATIONS, Layout, Mode, Output, Screen

PROGRAM = "busctl"
PACKAGE = "systemd"
_OBJECT = ("org.gnome.Mutter.DisplayConfig", "/org/gnome/Mutter/DisplayConfig")
_CALL = ("--user", "--json=short", "--", "call", *_OBJECT, _OBJECT[0])
QUERY = (*_CALL, "GetCurrentState")
# The last three are of dbus-daemon, of sd-bus and of dbus-broker.
GONE = ("Failed to connect", "not provided by any", "NameHasNoOwner", "name is not activatable")
LACKS = ()
# Mutter (50) keeps a card that has gone in its list, without its outputs, and refuses one that is
# announced at the same node as one that it has already.
WHY_GONE = " (GNOME uses a graphics card that was away only after a new login)"
_TEMPORARY = "1"
_LAYOUT_MODES = {1: "logical", 2: "physical"}
# What a monitor has in addition to its mode: the name for setting it, the name when it is shown,
# the type, and the defaults, to which it goes back if it is not set again.
_PROPERTIES = (
    ("color-mode", "color-mode", "u", ("0",)),
    ("rgb-range", "rgb-range", "u", ("0", "1")),
    ("underscanning", "is-underscanning", "b", ("false",)),
)


def parse(text: str) -> Screen:
    """The screen from the answer to GetCurrentState."""
    serial, monitors, logical, properties = json.loads(text)["data"]
    on = {name: one for one in logical for name in (monitor[0] for monitor in one[5])}
    kept = tuple(_layout_mode(properties))
    more = {monitor[0][0]: (*kept, *_more(monitor[2])) for monitor in monitors}
    modes = {monitor[0][0]: tuple(map(_mode, monitor[1])) for monitor in monitors}
    current = {
        monitor[0][0]: _mode(mode)
        for monitor in monitors
        for mode in monitor[1]
        if _flag(mode, "is-current")
    }
    outputs = [
        _output(name, on[name], current[name], modes[name], more[name])
        if name in on
        else Output(name)
        for name in more
    ]
    is_physical = _LAYOUT_MODES.get(_value(properties, "layout-mode")) == "physical"
    scaling = 0 if is_physical else -1
    return Screen(Layout.of(outputs), modes, serial=str(serial), scaling=scaling, joined=True)


def arguments(screen: Screen, wanted: Layout) -> list[str]:
    """A call of ApplyMonitorsConfig with the whole layout: what it leaves out, Mutter switches
    off. Outputs in one place mirror each other, and are one logical monitor."""
    others = [one for one in screen.layout.outputs if one.name not in wanted.names]
    places: dict[tuple[str, ...], list[Output]] = {}
    for output in filter(lambda one: one.is_on, (*wanted.outputs, *others)):
        places.setdefault(tuple(_place(output)), []).append(output)
    words = [screen.serial, _TEMPORARY, str(len(places))]
    for place, outputs in places.items():
        primary = any(output.primary for output in outputs)
        words += [*place, str(primary).lower(), str(len(outputs))]
        for output in outputs:
            words += [output.name, screen.mode_of(output).id, *_properties(output)]
    words += _mode_words(wanted)
    return [*_CALL, "ApplyMonitorsConfig", "uua(iiduba(ssa{sv}))a{sv}", *words]


def _mode(mode: list[Any]) -> Mode:
    name, width, height, rate, _, scales = mode[:6]
    return Mode(
        name=f"{width}x{height}",
        rate=f"{rate:.3f}",
        width=width,
        height=height,
        preferred=_flag(mode, "is-preferred"),
        id=name,
        # Interlaced, or of a variable rate: "1920x1080@60.000+vrr".
        more=(("id", name),),
        scales=tuple(f"{scale:.9g}" for scale in scales),
    )


def _value(properties: dict[str, Any], name: str) -> Any:
    """A value of an a{sv}, None if it is not there."""
    return properties.get(name, {}).get("data")


def _flag(mode: list[Any], name: str) -> bool:
    return bool(_value(mode[6], name))


def _layout_mode(properties: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Whether positions are in logical or physical pixels, if that can be chosen. This holds for
    the whole screen, and each output needs it to get its old place back."""
    name = _LAYOUT_MODES.get(_value(properties, "layout-mode"))
    if name and _value(properties, "supports-changing-layout-mode"):
        yield "layout-mode", name


def _mode_words(wanted: Layout) -> list[str]:
    """The last a{sv} of the call. Without it Mutter chooses a layout mode itself."""
    numbers = {name: number for number, name in _LAYOUT_MODES.items()}
    for output in wanted.outputs:
        if number := numbers.get(output.extra("layout-mode")):
            return ["1", "layout-mode", "u", str(number)]
    return ["0"]


def _more(properties: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, shown, _, _ in _PROPERTIES:
        if (value := _value(properties, shown)) is not None:
            yield name, json.dumps(value)


def _properties(output: Output) -> list[str]:
    """The a{sv} of a monitor, as arguments of busctl."""
    given = [
        (name, kind, output.extra(name))
        for name, _, kind, defaults in _PROPERTIES
        if output.extra(name, defaults[0]) not in defaults
    ]
    return [str(len(given)), *(word for one in given for word in one)]


def _output(
    name: str,
    logical: list[Any],
    mode: Mode,
    modes: tuple[Mode, ...],
    more: tuple[tuple[str, str], ...],
) -> Output:
    x, y, scale, transform, primary = logical[:5]
    return Output(
        name=name,
        mode=mode.name,
        rate=mode.rate,
        x=x,
        y=y,
        rotate=ROTATIONS[transform % 4],
        reflect="x" if transform > 3 else "",
        scale=f"{scale:.9g}",
        primary=primary,
        more=(*(mode.more if mode.is_ambiguous(modes) else ()), *more),
    )


def _place(output: Output) -> Iterator[str]:
    yield from (str(output.x), str(output.y), output.scale)
    yield str(ROTATIONS.index(output.rotate) + 4 * bool(output.reflect))
