"""Layouts on the real programs: off, on, as wished, and back to just what was."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.desktop.session import Desktop
from vfio_hooks.layouts.arrange import Wish, arrange
from vfio_hooks.layouts.layout import ROTATIONS, Layout, Mode, Output, Screen

EXAMPLES = int(os.environ.get("VFIO_HOOKS_EXAMPLES", 0))
SIDES = ("right-of", "below", "left-of", "above")


def placed(data: st.DataObject, desktop: Desktop, screen: Screen) -> list[Wish]:
    """A wish for each output: turned, scaled, one beside the other or mirroring it."""
    wishes: list[dict[str, Any]] = []
    side = data.draw(st.integers(0, 3), "side")
    for name in data.draw(st.permutations(sorted(screen.layout.names)), "order"):
        wish: dict[str, Any] = {
            "name": name,
            "scale": data.draw(st.sampled_from(desktop.program.scales), "scale"),
        }
        if desktop.program.turns:
            wish["rotation"] = data.draw(st.sampled_from(ROTATIONS), "rotation")
            wish["reflection"] = data.draw(st.sampled_from(("", "x")), "reflection")
        before = wishes[-1] if wishes else None
        if before is None:
            wish["position"] = "0,0"
        elif alike(screen, name, before["name"]) and data.draw(st.booleans(), "mirrors"):
            wish = {**before, "name": name, "same-as": before["name"]}
        else:
            # Anywhere but back over those before.
            side = (side + data.draw(st.sampled_from((0, 1, 3)), "turn")) % 4
            wish[SIDES[side]] = before["name"]
        wishes.append(wish)
    return list(wishes)


def alike(screen: Screen, one: str, other: str) -> bool:
    """Whether two outputs have a first mode in common, without which nothing mirrors."""
    modes = (screen.modes[name][0] for name in (one, other))
    return len({(mode.width, mode.height) for mode in modes}) == 1


@settings(
    max_examples=EXAMPLES or 6,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    # A failure on a real program waits for seconds, so that none is made smaller.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_off_on_and_back_is_the_same(desktop: Desktop, data: st.DataObject) -> None:
    knob = desktop.layout
    names = sorted(knob.screen(desktop).layout.names)
    light(desktop, names)
    screen = knob.screen(desktop)
    primary = data.draw(st.sampled_from(names), "primary") if screen.has_primary else None
    start = arrange(screen, (), primary, placed(data, desktop, screen))
    knob.write(desktop, str(start))
    before = knob.read(desktop)
    assert Layout.parse(before).looks_like(start)

    off = data.draw(st.sets(st.sampled_from(names), min_size=1, max_size=2), "off")
    without = arrange(knob.screen(desktop), sorted(off), None, ())
    knob.write(desktop, str(without))
    assert Layout.parse(knob.read(desktop)).lit == set(names) - off

    knob.write(desktop, before)
    assert knob.read(desktop) == before


def light(desktop: Desktop, names: list[str]) -> None:
    """All outputs on, in a row, as they are at first."""
    screen = desktop.layout.screen(desktop)
    x, lit = 0, []
    for name in names:
        # A headless output of wlroots has a mode only while it is on.
        mode = next(iter(screen.modes[name]), Mode("1280x720", "", 1280, 720))
        lit.append(Output(name, mode.name, mode.rate, x, primary=not x and screen.has_primary))
        x += mode.width
    desktop.layout.write(desktop, str(Layout.of(lit)))
