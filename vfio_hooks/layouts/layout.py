"""A layout of outputs, as data and as one line of text, the same for every display server."""

import hashlib
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote

from vfio_hooks.layouts.geometry import Box, at_the_right_end
from vfio_hooks.record import field, record, replace

ROTATIONS = ("normal", "left", "inverted", "right")
"""Counterclockwise, in steps of 90 degrees; the order is that of wl_output's transforms."""
REFLECTIONS = ("", "x", "y", "xy")
_SAFE = "+,/-_.:()"
_PRIVATE = ("timing", "filter", "id", "monitor")
"""What a server chooses by itself if it is not set, and what nobody can see."""
SETTINGS = ("priority", "layout-mode", "color-mode", "rgb-range", "underscanning")
"""What every output that is on has. An output that is switched on again has it without a
command."""


@record
class Output:
    """One connector, and what it shows; without a `mode` it is off.

    Positions are in the pixels of the whole screen. `rate` (Hz) and `scale` are numbers as the
    display server prints them. `more` is what only one server has: panning, priority.
    """

    name: str
    mode: str = ""
    rate: str = ""
    x: int = 0
    y: int = 0
    rotate: str = "normal"
    reflect: str = ""
    scale: str = "1"
    primary: bool = False
    more: tuple[tuple[str, str], ...] = ()

    @property
    def is_on(self) -> bool:
        """Whether it shows anything."""
        return bool(self.mode)

    @property
    def mode_text(self) -> str:
        """The mode for people."""
        return f"{self.mode} of {self.rate} Hz" if self.rate else self.mode

    def extra(self, key: str, default: str = "") -> str:
        """A value of `more`."""
        return dict(self.more).get(key, default)

    @property
    def visible(self) -> "Output":
        """The output without settings that nobody can see."""
        return replace(self, more=tuple(pair for pair in self.more if pair[0] not in _PRIVATE))

    def __str__(self) -> str:
        name = quote(self.name, _SAFE)
        if not self.is_on:
            return f"{name} off"
        words = [name, quote(self.mode, _SAFE) + (f"@{self.rate}" if self.rate else "")]
        words.append(f"at={self.x},{self.y}")
        words += ["primary"] if self.primary else []
        words += [f"rotate={self.rotate}"] if self.rotate != "normal" else []
        words += [f"reflect={self.reflect}"] if self.reflect else []
        words += [f"scale={self.scale}"] if self.scale != "1" else []
        words += [f"{key}={quote(value, _SAFE)}" for key, value in self.more]
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> "Output":
        """The output that was printed as `text`. Raises ValueError."""
        name, mode, *words = text.split(" ")
        if mode == "off":
            return cls(unquote(name))
        mode, _, rate = mode.partition("@")
        pairs = dict(word.partition("=")[::2] for word in words)
        x, _, y = pairs.pop("at").partition(",")
        return cls(
            name=unquote(name),
            mode=unquote(mode),
            rate=rate,
            x=int(x),
            y=int(y),
            rotate=pairs.pop("rotate", "normal"),
            reflect=pairs.pop("reflect", ""),
            scale=pairs.pop("scale", "1"),
            primary=pairs.pop("primary", None) is not None,
            more=tuple((key, unquote(value)) for key, value in pairs.items()),
        )


@record
class Layout:
    """All connected outputs, in the order of their names."""

    outputs: tuple[Output, ...]

    @classmethod
    def of(cls, outputs: Iterable[Output]) -> "Layout":
        """A layout of these outputs, in whatever order they come."""
        return cls(tuple(sorted(outputs, key=lambda output: output.name)))

    def __str__(self) -> str:
        return "; ".join(map(str, self.outputs))

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """The layout that was printed as `text`. Raises ValueError or KeyError."""
        return cls(tuple(map(Output.parse, text.split("; ")))) if text else cls(())

    @property
    def names(self) -> frozenset[str]:
        """The names of all outputs, on or off."""
        return frozenset(output.name for output in self.outputs)

    @property
    def lit(self) -> frozenset[str]:
        """The names of those that show something."""
        return frozenset(output.name for output in self.outputs if output.is_on)

    def only(self, names: Iterable[str]) -> "Layout":
        """The part of the layout that these outputs make up."""
        chosen = frozenset(names)
        return Layout(tuple(output for output in self.outputs if output.name in chosen))

    def looks_like(self, wanted: "Layout") -> bool:
        """Whether this shows what is `wanted`, on the outputs that both have. Outputs that came or
        went do not count: a monitor that is switched off does not change the layout. Nor do
        settings that `wanted` does not mention."""
        both = self.names & wanted.names
        asked = wanted.only(both).outputs
        shown = self.only(both).outputs
        kept = [_without_settings(one, other) for one, other in zip(shown, asked, strict=True)]
        return [one.visible for one in _in_order(kept)] == [one.visible for one in _in_order(asked)]


def _without_settings(output: Output, wanted: Output) -> Output:
    """An output without the settings that the wanted one does not mention."""
    unasked = set(SETTINGS) - dict(wanted.more).keys()
    return replace(output, more=tuple(pair for pair in output.more if pair[0] not in unasked))


def _in_order(outputs: Iterable[Output]) -> list[Output]:
    """The outputs with KDE's priorities numbered from 1 to n. Only their order matters, as Plasma
    counts from 0 or from 1 and leaves numbers out. The first one is the primary output."""
    counted = list(outputs)
    numbers = sorted(int(one.extra("priority")) for one in counted if one.extra("priority"))
    return [
        replace(
            one,
            primary=one.extra("priority") == str(numbers[0]),
            more=tuple(
                (key, str(numbers.index(int(value)) + 1) if key == "priority" else value)
                for key, value in one.more
            ),
        )
        if one.extra("priority")
        else one
        for one in counted
    ]


@record
class Mode:
    """A mode that an output can have; `id` is the display server's own name of just this one."""

    name: str
    rate: str
    width: int
    height: int
    preferred: bool = False
    id: str = ""
    more: tuple[tuple[str, str], ...] = ()
    scales: tuple[str, ...] = ()
    """The only scales that it can have, if they are limited."""

    def is_ambiguous(self, modes: Iterable["Mode"]) -> bool:
        """Whether others of an output's modes have the same name and rate."""
        return sum((one.name, one.rate) == (self.name, self.rate) for one in modes) > 1


@record
class Screen:
    """What a display server shows: the layout, and all that its outputs could be.

    `edids` is each monitor's EDID in hex, if the server shows it; `serial` is the server's own
    number for this state. `scaling` is the power of an output's scale by which its part of the
    screen grows: a scale of 2 makes it twice as wide for X11 (1), half as wide for most compositors
    (-1), or has no effect (0). A scale is rounded to multiples of 1/120, 1/256 and so on, as in
    `steps`, one after the other.
    `has_primary` says whether an output can be the primary one, and `joined` whether each has to
    touch another at an edge.
    """

    layout: Layout
    modes: Mapping[str, tuple[Mode, ...]]
    edids: Mapping[str, str] = field(default_factory=dict)
    serial: str = ""
    scaling: int = -1
    steps: tuple[int, ...] = ()
    has_primary: bool = True
    joined: bool = False

    def mode_of(self, output: Output) -> Mode:
        """The mode that an output has or gets: the one with the same id or, because ids change when
        a graphics card comes back from a guest, one with the same name and rate. Raises
        ValueError."""
        there = [
            mode
            for mode in self.modes.get(output.name, ())
            if (mode.name, mode.rate) == (output.mode, output.rate)
        ]
        same = [mode for mode in there if set(mode.more) <= set(output.more)]
        for mode in (*same, *there):
            return mode
        raise ValueError(f"{output.name} has no mode {output.mode_text}")

    def offers(self, output: Output) -> bool:
        """Whether an output still has the mode that it should get."""
        modes = self.modes.get(output.name, ())
        return any((one.name, one.rate) == (output.mode, output.rate) for one in modes)

    def size_of(self, output: Output) -> tuple[int, int]:
        """Width and height of an output's part of the screen; nothing if it is off."""
        if not output.is_on:
            return 0, 0
        mode = self.mode_of(output)
        across, _, down = output.scale.partition("x")
        width = round(mode.width * float(across) ** self.scaling)
        height = round(mode.height * float(down or across) ** self.scaling)
        return (height, width) if output.rotate in ("left", "right") else (width, height)

    def box(self, output: Output) -> Box:
        """An output's part of the screen."""
        width, height = self.size_of(output)
        return Box(output.x, output.y, output.x + width, output.y + height)

    def scale(self, output: Output, wanted: float) -> str:
        """The scale nearest to the wanted one that an output can have."""
        if offered := self.mode_of(output).scales:
            return min(offered, key=lambda one: abs(float(one) - wanted))
        for step in self.steps:
            wanted = round(wanted * step) / step
        return f"{wanted:.9g}"

    def monitor(self, name: str) -> str:
        """What tells an output's monitor from others, "" if the server does not say."""
        edid = self.edids.get(name)
        return hashlib.sha256(edid.encode()).hexdigest()[:8] if edid else ""

    def marked(self, output: Output) -> Output:
        """An output with what tells its monitor from others."""
        monitor = self.monitor(output.name)
        if not output.is_on or not monitor:
            return output
        return replace(output, more=(*output.more, ("monitor", monitor)))

    def find(self, layout: Layout) -> Layout:
        """A layout with the names that its outputs have now. X11 numbers its cards, so the outputs
        of a card that was away may have other names, but the same monitors."""
        new = {self.monitor(name): name for name in sorted(self.layout.names - layout.names)}
        new.pop("", None)
        return Layout.of(
            output
            if output.name in self.layout.names
            else replace(output, name=new.pop(output.extra("monitor"), output.name))
            for output in layout.outputs
        )


def with_strangers(screen: Screen, wanted: Layout) -> tuple[Layout, list[str]]:
    """A layout with outputs added that it does not know: those that it would overlap, or leave
    without a common edge although all need one. They go to its right end, in the order of their
    names. Returns the layout and these names."""
    known = [one for one in wanted.outputs if one.is_on and screen.offers(one)]
    boxes = {one.name: screen.box(one) for one in known}
    outputs, moved = list(wanted.outputs), list[str]()
    for output in screen.layout.outputs:
        if output.name in wanted.names or not output.is_on or not boxes:
            continue
        box = screen.box(output)
        is_apart = screen.joined and not any(map(box.touches, boxes.values()))
        if is_apart or any(map(box.overlaps, boxes.values())):
            box = at_the_right_end(boxes, box)
            outputs.append(replace(output, x=box.left, y=box.top, primary=False))
            moved.append(output.name)
        boxes[output.name] = box
    return Layout.of(outputs), moved
