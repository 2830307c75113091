"""Changes a layout: which outputs are off or on, where they are, and which is the primary one."""

from collections.abc import Iterable, Mapping

from vfio_hooks.errors import HookError
from vfio_hooks.layouts.geometry import closed_up
from vfio_hooks.layouts.layout import REFLECTIONS, ROTATIONS, SETTINGS, Layout, Mode, Output, Screen
from vfio_hooks.record import replace

Wish = Mapping[str, str | int | float]
"""What is wished for one output; WISHES has the keys."""
_SIDES = ("right-of", "left-of", "above", "below", "same-as")
WISHES = ("name", "mode", "rate", "position", "rotation", "reflection", "scale", *_SIDES)

_OF_ANY_MODE = ("monitor", *SETTINGS)


def check_wish(wish: Wish) -> None:
    """Raise ValueError for a wish that no output could fulfil."""
    if unknown := sorted(set(wish) - set(WISHES)):
        raise ValueError(f"has an unknown key {unknown[0]!r}; there are: {', '.join(WISHES)}")
    if not isinstance(wish.get("name"), str):
        raise ValueError('needs a name, such as { name = "HDMI-1" }')
    if wish.get("rotation", "normal") not in ROTATIONS:
        raise ValueError(f"has a rotation that is not one of {', '.join(ROTATIONS)}")
    if wish.get("reflection", "") not in REFLECTIONS:
        raise ValueError("has a reflection that is not one of x, y, xy")
    if any(not isinstance(wish.get(key, 1), int | float) for key in ("rate", "scale")):
        raise ValueError("has a rate or scale that is not a number")
    if "position" in wish:
        _position(wish)


def arrange(
    screen: Screen, off: Iterable[str], primary: str | None, wishes: Iterable[Wish]
) -> Layout:
    """The screen's layout with these changes. Raises HookError for what the screen cannot show.

    If an output goes off, those behind it close the gap: no server lets the pointer jump over a gap
    or a corner, and GNOME refuses such a layout. The layout begins at 0,0, as X11 needs it.
    """
    work = _Arranging(screen, {output.name: output for output in screen.layout.outputs})
    for name in off:
        work.outputs[name] = Output(work.known(name).name)
    if any(screen.layout.only([name]).outputs[0].is_on for name in off):
        work.close_gaps()
    for wish in wishes:
        work.grant(wish)
    work.choose_primary(primary)
    work.begin_at_the_origin()
    return Layout.of(work.outputs.values())


class _Arranging:
    """A layout in the making."""

    def __init__(self, screen: Screen, outputs: dict[str, Output]) -> None:
        self.screen = screen
        self.outputs = outputs

    def known(self, name: str) -> Output:
        """An output by its name."""
        if name not in self.outputs:
            there = ", ".join(self.outputs) or "none"
            raise HookError(f"there is no output {name!r}", f"connected are: {there}")
        return self.outputs[name]

    def on(self) -> list[Output]:
        """The outputs that show something, from left to right."""
        return sorted(
            (output for output in self.outputs.values() if output.is_on),
            key=lambda output: (output.x, output.y),
        )

    def close_gaps(self) -> None:
        """Move the other outputs into the gaps of those that went off."""
        for name, box in closed_up({one.name: self.screen.box(one) for one in self.on()}).items():
            self.outputs[name] = replace(self.outputs[name], x=box.left, y=box.top)

    def grant(self, wish: Wish) -> None:
        """Change one output as wished."""
        before = self.known(str(wish["name"]))
        after = self._with_mode(before, wish)
        after = replace(
            after,
            rotate=str(wish.get("rotation", after.rotate)),
            reflect=str(wish.get("reflection", after.reflect)),
            scale=self.screen.scale(after, float(wish["scale"]))
            if "scale" in wish
            else after.scale,
        )
        if not before.is_on:
            last = max((one.x + self.screen.size_of(one)[0] for one in self.on()), default=0)
            after = replace(after, x=last)
        x, y = self._place(after, wish)
        self.outputs[after.name] = replace(after, x=x, y=y)

    def _with_mode(self, output: Output, wish: Wish) -> Output:
        if output.is_on and "mode" not in wish and "rate" not in wish:
            return output
        modes = self.screen.modes.get(output.name, ())
        name = str(wish.get("mode", output.mode)) or _preferred(output, modes).name
        named = [mode for mode in modes if mode.name == name]
        if not named:
            there = ", ".join(dict.fromkeys(mode.name for mode in modes))
            raise HookError(f"{output.name} has no mode {name!r}", f"there are: {there}")
        rate = float(wish.get("rate", 0))
        chosen = (
            min(named, key=lambda mode: abs(float(mode.rate or 0) - rate)) if rate else named[0]
        )
        if rate and abs(float(chosen.rate or 0) - rate) >= 1:
            there = ", ".join(mode.rate for mode in named)
            raise HookError(f"{output.name} has no {name} at {rate:g} Hz", f"there are: {there}")
        kept = tuple(pair for pair in output.more if pair[0] in _OF_ANY_MODE)
        return replace(output, mode=chosen.name, rate=chosen.rate, more=chosen.more + kept)

    def _place(self, output: Output, wish: Wish) -> tuple[int, int]:
        if "position" in wish:
            return _position(wish)
        width, height = self.screen.size_of(output)
        for side in _SIDES:
            if side not in wish:
                continue
            other = self.known(str(wish[side]))
            if not other.is_on:
                raise HookError(f"{output.name} cannot be {side} {other.name}: it is off")
            beside, beneath = self.screen.size_of(other)
            return {
                "right-of": (other.x + beside, other.y),
                "left-of": (other.x - width, other.y),
                "above": (other.x, other.y - height),
                "below": (other.x, other.y + beneath),
                "same-as": (other.x, other.y),
            }[side]
        return output.x, output.y

    def choose_primary(self, name: str | None) -> None:
        """Make an output the primary one. If none is named, and the primary one went off, it is the
        leftmost."""
        if not self.on():
            raise HookError(
                "no output would be left on",
                "connect a monitor to another graphics card; with one card only, use [session]",
            )
        if name is not None and not self.known(name).is_on:
            raise HookError(f"{name} cannot be the primary output: it is off")
        if name is not None and not self.screen.has_primary:
            raise HookError(
                f"{name} cannot be the primary output: this compositor has no primary output",
                "remove primary from [display]",
            )
        if name is None:
            first = next((output for output in self.on() if output.primary), self.on()[0])
            if not any(output.primary for output in self.screen.layout.outputs):
                return
            name = first.name
        places = [self._shared_place(self.known(name))] if self.screen.joined else []
        for output in self.on():
            is_first = output.name == name or self._shared_place(output) in places
            self.outputs[output.name] = replace(output, primary=is_first)
        self._renumber()

    def _shared_place(self, output: Output) -> tuple[int, int]:
        """The place of an output. Outputs that mirror each other share it: for GNOME they are one
        monitor."""
        return output.x, output.y

    def _renumber(self) -> None:
        """Number KDE's priorities from 1 to n, in their old order except for the primary's."""
        ranked = [output for output in self.on() if output.extra("priority")]
        ranked.sort(key=lambda output: (not output.primary, int(output.extra("priority"))))
        for number, output in enumerate(ranked, 1):
            more = {**dict(output.more), "priority": str(number)}
            self.outputs[output.name] = replace(output, more=tuple(more.items()))

    def begin_at_the_origin(self) -> None:
        """Move everything so that it begins at 0,0."""
        left, top = min(one.x for one in self.on()), min(one.y for one in self.on())
        for output in self.on():
            self.outputs[output.name] = replace(output, x=output.x - left, y=output.y - top)


def _preferred(output: Output, modes: tuple[Mode, ...]) -> Mode:
    for mode in (*(mode for mode in modes if mode.preferred), *modes):
        return mode
    raise HookError(f"{output.name} has no modes", "is its monitor switched on?")


def _position(wish: Wish) -> tuple[int, int]:
    x, _, y = str(wish["position"]).partition(",")
    try:
        return int(x), int(y)
    except ValueError:
        raise ValueError('has a position that is not like "1920,0"') from None
