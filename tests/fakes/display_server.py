"""A display server in memory, and the programs that show and change it. What they print and take
was seen of the real ones, beside which tests/desktop/test_fakes.py puts them.

Run as a program it is whichever it is called as, with its state in a file.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

ROTATIONS = ("normal", "left", "inverted", "right")
REFLECTIONS = ("normal", "x", "y", "xy")
PROGRAMS = ("xrandr", "kscreen-doctor", "wlr-randr", "busctl")


@dataclass
class Monitor:
    """A connected output. `modes` are width, height, rate; `mode` is the number of the one that
    is on, None while it is off."""

    name: str
    modes: list[tuple[int, int, float]]
    mode: int | None = None
    x: int = 0
    y: int = 0
    rotate: str = "normal"
    reflect: str = "normal"
    scale: float = 1.0
    primary: bool = False
    priority: int = 0
    crtc: int = 0
    edid: str = ""
    color_mode: int = 0
    rgb_range: int | None = None
    """Mutter 50 and newer have it."""
    underscanning: bool | None = None
    """None where the monitor cannot do it."""
    first_id: int = 1
    """KWin's number of the first mode."""
    stubborn: bool = False
    """It takes a change and does not do it."""


@dataclass
class Server:
    """The monitors by name, and the cards that an X server lists."""

    monitors: dict[str, Monitor] = field(default_factory=dict)
    providers: list[str] = field(default_factory=list)
    serial: int = 1
    """Mutter's, which counts changes of the hardware."""
    layout_mode: int = 1
    fixed_mode: bool = False
    """Mutter's layout mode: 1 is logical, 2 is physical; before 50 there may be no choice."""
    plasma: str = "6.3"
    """6.7 lets an output that is off keep its priority; until one is set they count from 0."""
    calls: list[list[str]] = field(default_factory=list)

    @classmethod
    def of(cls, *monitors: Monitor, providers: tuple[str, ...] = ()) -> "Server":
        """A server with these monitors."""
        return cls({one.name: one for one in monitors}, list(providers))

    @classmethod
    def of_two(cls) -> "Server":
        """A server with two monitors side by side."""
        left = Monitor("DP-1", [(1920, 1080, 60)], 0, primary=True)
        return cls.of(left, Monitor("DP-2", [(1920, 1080, 60)], 0, 1920, crtc=1))

    def run(self, program: str, arguments: list[str]) -> str:
        """What the program prints."""
        programs: dict[str, Callable[[list[str]], str]] = {
            "xrandr": self.xrandr,
            "kscreen-doctor": self.kscreen_doctor,
            "wlr-randr": self.wlr_randr,
            "busctl": self.busctl,
        }
        self.calls.append([program, *arguments])
        return programs[program](arguments)

    def told(self, argv: list[str]) -> str:
        """What a command prints that runs one of the programs as a user."""
        start = next(number for number, word in enumerate(argv) if word in PROGRAMS)
        return self.run(argv[start], argv[start + 1 :])

    # X11

    def xrandr(self, arguments: list[str]) -> str:
        """xrandr 1.5."""
        if arguments == ["--listproviders"]:
            lines = [f"Providers: number : {len(self.providers)}"]
            for number, name in enumerate(self.providers):
                lines.append(f"Provider {number}: id: 0x{0x56 + number:x} cap: 0xf, Source Output")
                lines[-1] += f" crtcs: 5 outputs: 3 associated providers: 2 name:{name}"
            return "\n".join(lines) + "\n"
        if arguments == ["--verbose"]:
            return "Screen 0: minimum 320 x 200, current 3840 x 1080, maximum 16384 x 16384\n" + (
                "".join(map(_verbose, self.monitors.values()))
            )
        if arguments[0] == "--noprimary":
            self._make_primary("")
            arguments = arguments[1:]
        for name, words in _by_output(arguments):
            monitor = self.monitors[name]
            settings = dict(zip(words[::2], words[1::2], strict=False))
            if "--primary" in words:
                self._make_primary(name)
            if "--off" in words:
                self._change(monitor, mode=None, rotate="normal", reflect="normal", scale=1.0)
                continue
            x, _, y = settings["--pos"].partition("x")
            size = settings.get("--transform", str(monitor.scale)).split(",")
            self._change(
                monitor,
                mode=int(settings["--mode"], 16) - _first_id(monitor),
                x=int(x),
                y=int(y),
                rotate=settings.get("--rotate", monitor.rotate),
                reflect=settings.get("--reflect", monitor.reflect),
                scale=float(size[0]),
            )
        return ""

    # Wayland

    def kscreen_doctor(self, arguments: list[str]) -> str:
        """kscreen-doctor of Plasma 6."""
        if arguments == ["--json"]:
            return "kscreen: a warning of Qt's\n" + json.dumps(
                {"outputs": [_kscreen(number, one) for number, one in enumerate(self._all())]}
            )
        for word in arguments:
            _, name, what, *rest = word.split(".")
            monitor, value = self.monitors[name], ".".join(rest)
            if what == "disable":
                monitor.mode = None
            elif what == "mode":
                self._change(monitor, mode=int(value) - monitor.first_id)
            elif what == "position":
                self._change(monitor, x=int(value.split(",")[0]), y=int(value.split(",")[1]))
            elif what == "rotation":
                turned = value.removeprefix("flipped")
                rotate = {"": "normal", "90": "left", "180": "inverted", "270": "right"}
                reflect = "x" if value.startswith("flipped") else "normal"
                self._change(monitor, rotate=rotate.get(turned, turned), reflect=reflect)
            elif what == "scale":
                self._change(monitor, scale=round(float(value) * 120) / 120)
            elif what == "priority":
                self._prioritize(monitor, int(value))
        if self.plasma == "6.3":
            self._prioritize()
        return ""

    def _prioritize(self, moved: Monitor | None = None, number: int = 0) -> None:
        """libkscreen's Config::setOutputPriority: the output is put into that place of the order,
        and all that are on are counted anew."""
        order = [one for one in self._all() if one.mode is not None]
        order.sort(key=lambda one: one.priority or len(order) + 1)
        if moved in order:
            order.remove(moved)
            order.insert(number - 1, moved)
        for place, one in enumerate(order, 1):
            one.priority = place
        for one in self._all():
            if one.mode is None and self.plasma == "6.3":
                one.priority = 0

    def wlr_randr(self, arguments: list[str]) -> str:
        """wlr-randr 0.4."""
        if not arguments:
            return "".join(map(_wlr, self.monitors.values()))
        for name, words in _by_output(arguments):
            monitor = self.monitors[name]
            if "--off" in words:
                monitor.mode = None
                continue
            assert words.pop(0) == "--on"
            settings = dict(zip(words[::2], words[1::2], strict=True))
            wanted = [f"{w}x{h}@{r:.6f}Hz" if r else f"{w}x{h}" for w, h, r in monitor.modes]
            x, _, y = settings["--pos"].partition(",")
            rotate, reflect = _from_transform(settings["--transform"])
            self._change(
                monitor,
                mode=wanted.index(settings.get("--mode") or settings["--custom-mode"]),
                x=int(x),
                y=int(y),
                rotate=rotate,
                reflect=reflect,
                scale=int(float(settings["--scale"]) * 256) / 256,
            )
        return ""

    def busctl(self, arguments: list[str]) -> str:
        """Mutter's DisplayConfig, of which busctl makes JSON."""
        method, *words = arguments[arguments.index("call") + 4 :]
        if method == "GetCurrentState":
            return json.dumps({"type": "u...", "data": self._mutter()})
        signature, serial, _, count, *words = words
        assert signature == "uua(iiduba(ssa{sv}))a{sv}"
        if serial != str(self.serial):
            sys.exit("Call failed: Access denied")
        for monitor in self.monitors.values():
            monitor.mode, monitor.color_mode = None, 0
            monitor.rgb_range = None if monitor.rgb_range is None else 1
            monitor.underscanning = None if monitor.underscanning is None else False
        for _ in range(int(count)):
            x, y, scale, transform, primary, number, *words = words
            for _ in range(int(number)):
                name, mode, given, *words = words
                more = [words[3 * one : 3 * one + 3] for one in range(int(given))]
                words = words[3 * len(more) :]
                properties = {(key, kind): value for key, kind, value in more}
                assert set(properties) <= {
                    ("color-mode", "u"),
                    ("rgb-range", "u"),
                    ("underscanning", "b"),
                }
                monitor = self.monitors[name]
                self._change(
                    monitor,
                    mode=[f"{w}x{h}@{rate:.3f}" for w, h, rate in monitor.modes].index(mode),
                    x=int(x),
                    y=int(y),
                    scale=float(scale),
                    rotate=ROTATIONS[int(transform) % 4],
                    reflect="x" if int(transform) > 3 else "normal",
                    primary=primary == "true",
                    color_mode=int(properties.get(("color-mode", "u"), 0)),
                )
                for value in filter(None, [properties.get(("rgb-range", "u"))]):
                    self._change(monitor, rgb_range=int(value))
                if ("underscanning", "b") in properties:
                    self._change(monitor, underscanning=True)
        assert words[:3] in (["0"], ["1", "layout-mode", "u"])
        if not self.fixed_mode:
            self.layout_mode = int(words[3]) if words[1:] else 1
        return ""

    def _mutter(self) -> list[Any]:
        monitors, logical = [], []
        for one in self._all():
            who = [one.name, "ACM", "Monitor", "0x1"]
            modes = []
            for number, (width, height, rate) in enumerate(one.modes):
                flags = {"is-current": {"type": "b", "data": True}} if number == one.mode else {}
                name = f"{width}x{height}@{rate:.3f}"
                modes.append([name, width, height, rate, 1.0, [1.0, 1.25, 2.0], flags])
            monitors.append([who, modes, _mutter_properties(one)])
            if one.mode is not None:
                transform = ROTATIONS.index(one.rotate) + 4 * (one.reflect != "normal")
                logical.append([one.x, one.y, one.scale, transform, one.primary, [who], {}])
        properties: dict[str, Any] = {"layout-mode": {"type": "u", "data": self.layout_mode}}
        if not self.fixed_mode:
            properties["supports-changing-layout-mode"] = {"type": "b", "data": True}
        return [self.serial, monitors, logical, properties]

    def _all(self) -> Iterator[Monitor]:
        return iter(self.monitors.values())

    def _make_primary(self, name: str) -> None:
        for one in self._all():
            one.primary = one.name == name

    def _change(self, monitor: Monitor, **values: Any) -> None:
        if not monitor.stubborn:
            monitor.__dict__.update(values)


def _mutter_properties(one: Monitor) -> dict[str, Any]:
    properties: dict[str, Any] = {"is-builtin": {"type": "b", "data": False}}
    properties["color-mode"] = {"type": "u", "data": one.color_mode}
    if one.underscanning is not None:
        properties["is-underscanning"] = {"type": "b", "data": one.underscanning}
    if one.rgb_range is not None:
        properties["rgb-range"] = {"type": "u", "data": one.rgb_range}
    return properties


def _first_id(monitor: Monitor) -> int:
    return 0x100 + sum(monitor.name.encode()) * 0x10


def _verbose(one: Monitor) -> str:
    """One output as xrandr --verbose shows it."""
    line = f"{one.name} connected{' primary' if one.primary else ''}"
    if one.mode is None:
        text = f"{line} (normal left inverted right x axis y axis)\n"
    else:
        width, height, _ = one.modes[one.mode]
        size = f"{round(width * one.scale)}x{round(height * one.scale)}"
        axes = {"normal": "", "x": " X axis", "y": " Y axis", "xy": " X and Y axis"}[one.reflect]
        text = f"{line} {size}+{one.x}+{one.y} (0x{_first_id(one) + one.mode:x}) {one.rotate}{axes}"
        text += " (normal left inverted right x axis y axis) 600mm x 340mm\n"
    text += "\tIdentifier: 0x42\n\tTimestamp:  1234\n\tSubpixel:   unknown\n"
    if one.mode is not None:
        text += "\tGamma:      1.0:1.0:1.0\n\tBrightness: 1.0\n\tClones:    \n"
        text += f"\tCRTC:       {one.crtc}\n\tCRTCs:      0 1 2 3\n"
        text += f"\tTransform:  {one.scale:f} 0.000000 0.000000\n"
        text += f"\t            0.000000 {one.scale:f} 0.000000\n"
        text += "\t            0.000000 0.000000 1.000000\n"
        text += f"\t           filter: {'bilinear' if one.scale != 1 else ''}\n"
    else:
        text += "\tClones:    \n\tCRTCs:      0 1 2 3\n"
    if one.edid:
        text += "\tEDID: \n" + "".join(
            f"\t\t{one.edid[start : start + 32]}\n" for start in range(0, len(one.edid), 32)
        )
    text += "\tnon-desktop: 0 \n\t\trange: (0, 1)\n"
    for number, (width, height, rate) in enumerate(one.modes):
        marks = "+HSync -VSync" + (" *current" if number == one.mode else "")
        marks += " +preferred" if number == 0 else ""
        clock = (width + 100) * (height + 30) * rate / 1e6
        text += f"  {width}x{height} (0x{_first_id(one) + number:x}) {clock:.3f}MHz {marks}\n"
        text += f"        h: width  {width} start {width + 20} end {width + 50} total {width + 100}"
        text += f" skew    0 clock  {clock:.2f}KHz\n"
        text += (
            f"        v: height {height} start {height + 3} end {height + 6} total {height + 30}"
        )
        text += f"           clock  {rate:.2f}Hz\n"
    return text


def _wlr(one: Monitor) -> str:
    text = f'{one.name} "A monitor (its connector)"\n  Make: ACM\n  Physical size: 600x340 mm\n'
    text += f"  Enabled: {'no' if one.mode is None else 'yes'}\n  Modes:\n"
    for number, (width, height, rate) in enumerate(one.modes):
        marks = ["preferred"] if number == 0 else []
        marks += ["current"] if number == one.mode else []
        told = f" ({', '.join(marks)})" if marks else ""
        text += f"    {width}x{height} px{f', {rate:.6f} Hz' if rate else ''}{told}\n"
    if one.mode is not None:
        degrees = ("", "90", "180", "270")[ROTATIONS.index(one.rotate)]
        flipped = "flipped" if one.reflect != "normal" else ""
        transform = "-".join(filter(None, (flipped, degrees))) or "normal"
        text += f"  Position: {one.x},{one.y}\n  Transform: {transform}\n"
        text += f"  Scale: {one.scale:f}\n  Adaptive Sync: disabled\n"
    return text


def _from_transform(text: str) -> tuple[str, str]:
    degrees = text.removeprefix("flipped").strip("-")
    rotate = {"90": "left", "180": "inverted", "270": "right"}.get(degrees, "normal")
    return rotate, "x" if text.startswith("flipped") else "normal"


def _kscreen(number: int, one: Monitor) -> dict[str, Any]:
    rotation = 1 << (ROTATIONS.index(one.rotate) + 4 * (one.reflect != "normal"))
    return {
        "id": number,
        "name": one.name,
        "connected": True,
        "enabled": one.mode is not None,
        "currentModeId": "" if one.mode is None else str(one.mode + one.first_id),
        "preferredModes": [str(one.first_id)],
        "pos": {"x": one.x, "y": one.y},
        "rotation": rotation,
        "scale": one.scale,
        "priority": one.priority,
        "modes": [
            {
                "id": str(position),
                "name": f"{width}x{height}@{rate:.0f}",
                "refreshRate": rate,
                "size": {"width": width, "height": height},
            }
            for position, (width, height, rate) in enumerate(one.modes, one.first_id)
        ],
    }


def _by_output(arguments: list[str]) -> Iterator[tuple[str, list[str]]]:
    starts = [number for number, word in enumerate(arguments) if word == "--output"]
    for start, end in zip(starts, [*starts[1:], len(arguments)], strict=True):
        yield arguments[start + 1], arguments[start + 2 : end]


def main(program: str, arguments: list[str]) -> None:
    """Be one of the programs."""
    path = os.environ["SCREEN"]
    if not os.path.exists(path):
        sys.exit("Can't open display :0")
    with open(path, encoding="utf-8") as file:
        data = json.load(file)
    monitors = {name: Monitor(**one) for name, one in data.pop("monitors").items()}
    server = Server(monitors, **data)
    print(server.run(program, arguments), end="")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(asdict(server), file)


if __name__ == "__main__":
    main(os.path.basename(sys.argv[0]), sys.argv[1:])
