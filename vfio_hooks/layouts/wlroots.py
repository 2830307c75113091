"""sway and other Wayland compositors, through wlr-randr and the protocol wlr-output-management.

Its text is read and not its JSON, which the version of Debian 12 does not have. Positions are in
logical pixels, and there is no primary output. A scale is a multiple of 1/256, but is printed cut
off after six digits: taken as printed, it would be a lower one.
"""

import re
from collections.abc import Iterator

from vfio_hooks.layouts.layout import ROTATIONS, Layout, Mode, Output, Screen

PROGRAM = "wlr-randr"
PACKAGE = "wlr-randr"
QUERY = ()
GONE = ("failed to connect to display",)
LACKS = ()
WHY_GONE = ""

_HEADER = re.compile(r"^(\S+) .*\n", re.MULTILINE)
_MODE = re.compile(r"^    (\d+)x(\d+) px(?:, ([\d.]+) Hz)?(?: \((.*)\))?", re.MULTILINE)
_FIELD = re.compile(r"^  (\S[^:\n]*): *(.*)", re.MULTILINE)
_STEPS = 256  # wl_fixed_t
_SWAYS_STEPS = 120
_DEGREES = {"90": "left", "180": "inverted", "270": "right"}


def parse(text: str) -> Screen:
    """The screen from what wlr-randr prints without arguments."""
    headers = list(_HEADER.finditer(text))
    ends = [following.start() for following in headers[1:]] + [len(text)]
    outputs, modes = [], {}
    for header, end in zip(headers, ends, strict=True):
        body = text[header.end() : end]
        outputs.append(_output(header[1], body))
        modes[header[1]] = tuple(map(_mode, _MODE.finditer(body)))
    return Screen(Layout.of(outputs), modes, steps=(_SWAYS_STEPS, _STEPS), has_primary=False)


def arguments(screen: Screen, wanted: Layout) -> list[str]:
    """Everything in one call, which the compositor accepts or refuses as a whole."""
    return [word for output in wanted.outputs for word in _settings(screen, output)]


def _output(name: str, body: str) -> Output:
    fields = dict(_FIELD.findall(body))
    current = [_mode(one) for one in _MODE.finditer(body) if "current" in (one[4] or "")]
    if fields["Enabled"] != "yes" or not current:
        return Output(name)
    x, _, y = fields["Position"].partition(",")
    degrees = fields["Transform"].removeprefix("flipped").strip("-")
    return Output(
        name=name,
        mode=current[0].name,
        rate=current[0].rate,
        x=int(x),
        y=int(y),
        rotate=_DEGREES.get(degrees, "normal"),
        reflect="x" if "flipped" in fields["Transform"] else "",
        scale=_exact(fields["Scale"]),
    )


def _mode(found: re.Match[str]) -> Mode:
    size = int(found[1]), int(found[2])
    rate = found[3] if float(found[3] or 0) else ""
    return Mode(f"{size[0]}x{size[1]}", rate, *size, "preferred" in (found[4] or ""))


def _settings(screen: Screen, output: Output) -> Iterator[str]:
    yield from ("--output", output.name)
    if not output.is_on:
        yield "--off"
        return
    rate = f"@{output.rate}Hz" if output.rate else ""
    listed = {(mode.name, mode.rate) for mode in screen.modes.get(output.name, ())}
    # A headless output has no modes, and lists only its current one.
    is_known = (output.mode, output.rate) in listed and output.rate
    yield from ("--on", "--mode" if is_known else "--custom-mode", output.mode + rate)
    yield from ("--pos", f"{output.x},{output.y}", "--transform", _transform(output))
    yield from ("--scale", _exact(output.scale))


def _exact(scale: str) -> str:
    """The multiple of 1/256 that a scale stands for."""
    return f"{round(float(scale) * _STEPS) / _STEPS:.9g}"


def _transform(output: Output) -> str:
    degrees = str(90 * ROTATIONS.index(output.rotate)) if output.rotate != "normal" else ""
    if output.reflect:
        return "-".join(filter(None, ("flipped", degrees)))
    return degrees or "normal"
