"""KDE on Wayland, through kscreen-doctor, which has its state as JSON.

Positions are in logical pixels. Plasma 5.27 and newer know an order of outputs instead of a
primary one, by numbers that they call priorities: the lowest of those that are on is the primary.
They count from 1, Plasma 6.7 from 0 until somebody has set one, and an output that is off may keep
its number.
"""

import json
from collections.abc import Iterator
from typing import Any

from vfio_hooks.layouts.layout import ROTATIONS, Layout, Mode, Output, Screen

PROGRAM = "kscreen-doctor"
PACKAGE = "libkscreen-bin (Debian; in 12 libkf5screen-bin), libkscreen or kscreen"
QUERY = ("--json",)
# The last is Qt's, which ends by SIGABRT then: it has the plugin for Wayland, and no compositor.
GONE = ("could not connect to display", "Invalid config", "platform plugins are: .*wayland")
LACKS = (
    (
        "Available platform plugins are",
        "qt6-wayland (Debian, Arch, openSUSE; in Debian 12 qtwayland5) or qt6-qtwayland (Fedora)",
    ),
)
WHY_GONE = ""

# KScreen::Output::Rotation, https://api.kde.org/libkscreen-index.html
_TURNS = {1 << number: (ROTATIONS[number % 4], "x" * (number > 3)) for number in range(8)}
_NAMES = {
    ("normal", ""): "normal",
    ("left", ""): "left",
    ("inverted", ""): "inverted",
    ("right", ""): "right",
    ("normal", "x"): "flipped",
    ("left", "x"): "flipped90",
    ("inverted", "x"): "flipped180",
    ("right", "x"): "flipped270",
}


def parse(text: str) -> Screen:
    """The screen from `kscreen-doctor --json`."""
    # Qt's own warnings come before it, and older versions print both on standard output.
    there = [one for one in json.loads(text[text.index("{") :])["outputs"] if one["connected"]]
    first = min((one.get("priority") or 0 for one in there if one["enabled"]), default=0)
    return Screen(
        Layout.of(_output(one, first) for one in there),
        {str(one["name"]): tuple(_modes(one)) for one in there},
        steps=(120,),
    )


def arguments(screen: Screen, wanted: Layout) -> list[str]:
    """A list of settings, which are applied together."""
    words = []
    for output in wanted.outputs:
        settings = _settings(screen, output) if output.is_on else ["disable"]
        words += [f"output.{output.name}.{setting}" for setting in settings]
    # Each setting takes the first place and moves the others back, so the last one comes first.
    ranked = [output for output in wanted.outputs if output.extra("priority")]
    ranked.sort(key=lambda output: int(output.extra("priority")), reverse=True)
    return words + [f"output.{output.name}.priority.1" for output in ranked]


def _output(one: dict[str, Any], first: int) -> Output:
    modes = [mode for mode in _modes(one) if mode.id == str(one["currentModeId"])]
    if not one["enabled"] or not modes:
        return Output(one["name"])
    rotate, reflect = _TURNS[one["rotation"]]
    priority = one.get("priority")
    return Output(
        name=one["name"],
        mode=modes[0].name,
        rate=modes[0].rate,
        x=one["pos"]["x"],
        y=one["pos"]["y"],
        rotate=rotate,
        reflect=reflect,
        scale=f"{one['scale']:.9g}",
        primary=priority == first if priority is not None else bool(one.get("primary")),
        more=() if priority is None else (("priority", str(priority)),),
    )


def _modes(one: dict[str, Any]) -> Iterator[Mode]:
    for mode in one["modes"]:
        width, height = mode["size"]["width"], mode["size"]["height"]
        yield Mode(
            name=f"{width}x{height}",
            rate=f"{mode['refreshRate']:.3f}",
            width=width,
            height=height,
            preferred=mode["id"] in one.get("preferredModes", ()),
            id=str(mode["id"]),
        )


def _settings(screen: Screen, output: Output) -> Iterator[str]:
    yield "enable"
    yield f"mode.{screen.mode_of(output).id}"
    yield f"position.{output.x},{output.y}"
    yield f"rotation.{_NAMES[output.rotate, output.reflect]}"
    yield f"scale.{output.scale}"
    if output.primary and not output.extra("priority"):
        yield "primary"
