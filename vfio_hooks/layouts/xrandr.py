"""X11, through xrandr(1), whose --verbose output shows the whole state of RandR."""

import re
from collections.abc import Iterator

from vfio_hooks.host.pci import ADDRESS
from vfio_hooks.layouts.layout import Layout, Mode, Output, Screen
from vfio_hooks.record import record, replace

PROGRAM = "xrandr"
PACKAGE = "x11-xserver-utils (Debian), xrandr or xorg-xrandr"
QUERY = ("--verbose",)
GONE = ("Can't open display",)
LACKS = ()
WHY_GONE = ""

_HEADER = re.compile(
    r"^(?P<name>\S+) (?P<state>connected|disconnected|unknown connection)(?P<primary> primary)?"
    r"(?: (?P<on>\d+x\d+)\+(?P<x>-?\d+)\+(?P<y>-?\d+) \(0x[0-9a-f]+\)"
    r" (?P<rotate>normal|left|inverted|right)(?: (?P<reflect>X and Y|X|Y) axis)?)?.*\n",
    re.MULTILINE,
)
_MODE = re.compile(
    r"^  (?P<name>\S+) \((?P<id>0x[0-9a-f]+)\) +(?P<clock>[\d.]+)MHz(?P<flags>.*)\n"
    r" +h: width +(?P<width>\d+) .*\n +v: height +(?P<height>\d+) .*clock +(?P<rate>[\d.]+)Hz",
    re.MULTILINE,
)
_PROPERTY = re.compile(r"^\t(\S[^:\n]*):(.*(?:\n\t\s.*)*)", re.MULTILINE)
_PROVIDER = re.compile(r"^Provider (\d+): .*name:(.*)", re.MULTILINE)
_PCI = re.compile(f"pci:({ADDRESS})")
_REFLECTIONS = {None: "", "X": "x", "Y": "y", "X and Y": "xy"}
_REFLECTING = {"": "normal", "x": "x", "y": "y", "xy": "xy"}
_NO_PANNING = ("0x0+0+0", "0x0+0+0", "0/0/0/0")


@record
class Provider:
    """A graphics card as the X server sees it. Number 0 draws everything. `address` is its PCI
    address, which some drivers put into the name."""

    number: int
    name: str
    address: str | None


def parse(text: str) -> Screen:
    """The screen from `xrandr --verbose`."""
    there = [one for one in _sections(text) if one.is_there]
    screen = Screen(
        Layout.of(one.output for one in there),
        {one.name: one.modes for one in there},
        {one.name: "".join(one.properties.get("EDID", "").split()) for one in there},
        scaling=1,
    )
    return replace(screen, layout=Layout.of(map(screen.marked, screen.layout.outputs)))


def arguments(screen: Screen, wanted: Layout) -> list[str]:
    """Everything in one call: xrandr finds the order that the hardware allows, and the CRTCs. No
    CRTC is given by number, as the numbers change when another output becomes the primary one."""
    words = [word for output in wanted.outputs for word in _settings(screen, output)]
    return words if any(one.primary for one in wanted.outputs) else ["--noprimary", *words]


def providers(text: str) -> list[Provider]:
    """The cards from `xrandr --listproviders`."""
    return [
        Provider(int(number), name.strip(), found[1] if (found := _PCI.search(name)) else None)
        for number, name in _PROVIDER.findall(text)
    ]


@record
class _Section:
    """What --verbose says about one output."""

    header: re.Match[str]
    properties: dict[str, str]
    modes: tuple[Mode, ...]
    current: Mode | None

    @property
    def name(self) -> str:
        return self.header["name"]

    @property
    def is_there(self) -> bool:
        """Whether it could show something. Even an output that is called disconnected can, with
        modes that somebody has added to it."""
        return self.header["state"] != "disconnected" or bool(self.modes)

    @property
    def output(self) -> Output:
        """The output, on or off."""
        if self.current is None:
            return Output(self.name)
        scale, transform = _scale(self.properties["Transform"])
        more = {
            **dict(self.current.more if self.current.is_ambiguous(self.modes) else ()),
            "transform": transform,
            "filter": self.properties["Transform"].partition("filter:")[2].strip(),
            "panning": _panning(self.properties),
        }
        return Output(
            name=self.name,
            mode=self.current.name,
            rate=self.current.rate,
            x=int(self.header["x"]),
            y=int(self.header["y"]),
            rotate=self.header["rotate"],
            reflect=_REFLECTIONS[self.header["reflect"]],
            scale=scale,
            primary=self.header["primary"] is not None,
            more=tuple((key, value) for key, value in more.items() if value),
        )


def _sections(text: str) -> Iterator[_Section]:
    headers = list(_HEADER.finditer(text))
    ends = [following.start() for following in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        body = text[header.end() : end]
        found = list(_MODE.finditer(body))
        current = [_mode(one) for one in found if "*current" in one["flags"]]
        yield _Section(
            header,
            dict(_PROPERTY.findall(body)),
            tuple(map(_mode, found)),
            current[0] if current and header["on"] else None,
        )


def _mode(found: re.Match[str]) -> Mode:
    """A mode. Two modes with the same name and rate may still differ in their timing."""
    flags = [flag for flag in found["flags"].split() if flag not in ("*current", "+preferred")]
    timing = "/".join((found["clock"], *flags))
    size = int(found["width"]), int(found["height"])
    preferred = "+preferred" in found["flags"]
    return Mode(found["name"], found["rate"], *size, preferred, found["id"], (("timing", timing),))


def _scale(transform: str) -> tuple[str, str]:
    """A transformation as a scale, "1.25" or "1.25x1.5", or else as its nine numbers."""
    found = re.findall(r"(-?\d+)(?:\.(\d*?))0*\s", transform)
    numbers = [whole + (f".{part}" if part else "") for whole, part in found]
    across, down = numbers[0], numbers[4]
    if numbers != [across, "0", "0", "0", down, "0", "0", "0", "1"]:
        return "1", ",".join(numbers)
    return across if across == down else f"{across}x{down}", ""


def _panning(properties: dict[str, str]) -> str:
    """The argument of --panning: the area, the area in which the pointer is tracked, the
    borders."""
    parts = [
        properties.get(key, default).strip()
        for key, default in zip(("Panning", "Tracking", "Border"), _NO_PANNING, strict=True)
    ]
    return "" if parts[0] == _NO_PANNING[0] else "/".join(parts)


def _settings(screen: Screen, output: Output) -> Iterator[str]:
    yield from ("--output", output.name)
    if not output.is_on:
        yield "--off"
        return
    now = {one.name: one for one in screen.layout.outputs}.get(output.name, Output(output.name))
    yield from ("--mode", screen.mode_of(output).id, "--pos", f"{output.x}x{output.y}")
    # Left out if it is so already: drivers without transformations refuse even the default.
    if output.rotate != now.rotate:
        yield from ("--rotate", output.rotate)
    if output.reflect != now.reflect:
        yield from ("--reflect", _REFLECTING[output.reflect])
    if _transform(output) != _transform(now):
        yield from ("--transform", _transform(output))
    if output.extra("filter") != now.extra("filter"):
        yield from ("--filter", output.extra("filter", "nearest"))
    if output.extra("panning") != now.extra("panning"):
        yield from ("--panning", output.extra("panning", _NO_PANNING[0]))
    if output.primary:
        yield "--primary"


def _transform(output: Output) -> str:
    """The argument of --transform: nine numbers, three for each row of a matrix."""
    across, _, down = output.scale.partition("x")
    scaled = ",".join((across, "0", "0", "0", down or across, "0", "0", "0", "1"))
    return output.extra("transform", scaled)
