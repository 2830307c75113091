"""Each fake of a display server beside the real one: told the same, both show the same."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.desktop.session import Desktop
from tests.desktop.test_layouts import EXAMPLES, light, placed
from tests.fakes.display_server import REFLECTIONS, Monitor, Server
from vfio_hooks.errors import HookError
from vfio_hooks.layouts import load
from vfio_hooks.layouts.arrange import arrange
from vfio_hooks.layouts.layout import Screen
from vfio_hooks.record import replace


def fake_of(screen: Screen) -> Server:
    """A fake that shows what a real one does."""
    monitors = []
    for output in screen.layout.outputs:
        modes = [(one.width, one.height, float(one.rate or 0)) for one in screen.modes[output.name]]
        wanted = (output.mode, output.rate)
        names = [(one.name, one.rate) for one in screen.modes[output.name]]
        monitors.append(
            Monitor(
                output.name,
                modes,
                names.index(wanted) if output.is_on else None,
                output.x,
                output.y,
                output.rotate,
                output.reflect or REFLECTIONS[0],
                float(output.scale),
                output.primary,
                int(output.extra("priority", "0")),
                rgb_range=int(output.extra("rgb-range")) if output.extra("rgb-range") else None,
                first_id=int(one) if (one := screen.modes[output.name][0].id).isdecimal() else 1,
            )
        )
    server = Server({one.name: one for one in monitors}, serial=int(screen.serial or 1))
    server.layout_mode = 2 if screen.scaling == 0 else 1
    server.fixed_mode = not any(one.extra("layout-mode") for one in screen.layout.outputs)
    return server


@pytest.mark.not_on("xorg")
@settings(
    max_examples=EXAMPLES or 3,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(data=st.data())
def test_a_fake_is_like_the_real_one(desktop: Desktop, data: st.DataObject) -> None:
    back_end, knob = load(desktop.program.back_end), desktop.layout
    names = sorted(knob.screen(desktop).layout.names)
    light(desktop, names)
    start = real = knob.screen(desktop)
    fake = fake_of(real)
    layouts = [
        arrange(start, (), None, placed(data, desktop, start)),
        arrange(start, [data.draw(st.sampled_from(names), "off")], None, ()),
        arrange(start, (), None, placed(data, desktop, start)),
    ]
    for layout in layouts:
        words = back_end.arguments(real, layout)
        try:
            desktop.run([back_end.PROGRAM, *words])
        except HookError as error:
            # kscreen-doctor 6.3 sometimes never hears that what it asked for is done.
            if "not finished after" not in error.problem:
                raise
        fake.run(back_end.PROGRAM, words)
        # labwc moves others than those that it is told to: then once more is right.
        desktop.run([back_end.PROGRAM, *words])
        real = knob.screen(desktop)
        shown = back_end.parse(fake.run(back_end.PROGRAM, [*back_end.QUERY]))
        assert str(shown.layout) == str(real.layout)
        assert shown.serial == real.serial


@pytest.mark.only("kwin")
@pytest.mark.parametrize("order", [(3, 1, 2), (2, 3, 1), (1, 1, 1), (3, 3, 1), (2, 2, 2)])
def test_priorities_are_places_that_are_taken(desktop: Desktop, order: tuple[int, ...]) -> None:
    names = sorted(desktop.layout.screen(desktop).layout.names)
    light(desktop, names)
    fake = fake_of(desktop.layout.screen(desktop))
    words = [f"output.{name}.priority.{n}" for name, n in zip(names, order, strict=True)]
    desktop.run(["kscreen-doctor", *words])
    fake.run("kscreen-doctor", words)
    shown = load("kscreen").parse(fake.run("kscreen-doctor", ["--json"])).layout
    assert str(shown) == desktop.layout.read(desktop)


@pytest.mark.only("mutter")
def test_a_call_that_knows_of_an_older_state_is_refused(desktop: Desktop) -> None:
    screen = desktop.layout.screen(desktop)
    back_end = load("mutter")
    words = back_end.arguments(replace(screen, serial="1"), screen.layout)
    fake = fake_of(screen)
    with pytest.raises(SystemExit, match="Call failed: Access denied"):
        fake.run("busctl", words)
    with pytest.raises(Exception, match="Call failed: Access denied"):
        desktop.run(["busctl", *words])
