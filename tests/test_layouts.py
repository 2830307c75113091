"""Layouts: as text, as each display server has them, and changed as somebody wishes."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.display_server import Monitor, Server
from vfio_hooks import layouts
from vfio_hooks.errors import HookError
from vfio_hooks.host.drm import Connector
from vfio_hooks.layouts.arrange import arrange
from vfio_hooks.layouts.cards import is_on_first_card, outputs_on
from vfio_hooks.layouts.geometry import Box, at_the_right_end, closed_up
from vfio_hooks.layouts.layout import (
    REFLECTIONS,
    ROTATIONS,
    Layout,
    Mode,
    Output,
    Screen,
    with_strangers,
)
from vfio_hooks.layouts.xrandr import providers
from vfio_hooks.record import replace

BACK_ENDS = ("xrandr", "kscreen", "mutter", "wlroots")
MODES = [(2560, 1440, 143.912), (1920, 1080, 60.0), (1920, 1080, 59.94), (1280, 720, 60.0)]
names = st.text("ABCdef-0123 ;@=%é", min_size=1, max_size=12)
positions = st.integers(-4000, 4000)
outputs = st.builds(
    Output,
    name=names,
    mode=names,
    rate=st.sampled_from(["60.00", "59.94", ""]),
    x=positions,
    y=positions,
    rotate=st.sampled_from(ROTATIONS),
    reflect=st.sampled_from(REFLECTIONS),
    scale=st.sampled_from(["1", "1.25", "1.5x2"]),
    primary=st.booleans(),
    more=st.sampled_from([(), (("timing", "1"), ("panning", "1600x1200+0+0/0x0+0+0/0/0/0/0"))]),
)
whole_layouts = st.lists(
    outputs | st.builds(Output, names), unique_by=lambda one: one.name, max_size=5
).map(Layout.of)


@settings(deadline=None)
@given(whole_layouts)
def test_a_layout_is_its_text(layout: Layout) -> None:
    off = tuple(Output(one.name) if one.mode == "off" else one for one in layout.outputs)
    assert Layout.parse(str(Layout(off))) == Layout(off)
    assert "\n" not in str(layout)


@settings(deadline=None)
@given(whole_layouts, whole_layouts)
def test_outputs_that_came_or_went_are_no_change(layout: Layout, others: Layout) -> None:
    more = Layout.of((*layout.outputs, *(o for o in others.outputs if o.name not in layout.names)))
    assert more.looks_like(layout) and layout.looks_like(more)
    for output in layout.outputs:
        changed = Layout.of((*layout.only(layout.names - {output.name}).outputs, off(output)))
        assert changed.looks_like(layout) == (not output.is_on)


def off(output: Output) -> Output:
    return Output(output.name)


@st.composite
def servers(draw: Any, back_end: str) -> Server:
    """A server with up to four monitors, in any state that it can be in."""
    server = Server(plasma=draw(st.sampled_from(["6.3", "6.7"])))
    # Nobody has set one yet, or somebody has.
    first = draw(st.integers(0, 1)) if server.plasma == "6.7" else 1
    count = draw(st.integers(1, 4))
    for number in range(count):
        mode = draw(st.none() | st.integers(0, len(MODES) - 1))
        one = Monitor(f"DP-{number + 1}", MODES, mode, crtc=number)
        if back_end == "mutter":
            one.rgb_range, one.underscanning = 1, False
        if mode is not None:
            # Beside one another, since what is in one place mirrors.
            one.x, one.y = 5000 * number, draw(st.integers(0, 3000))
            one.rotate = draw(st.sampled_from(ROTATIONS))
            one.scale = draw(st.sampled_from([1, 1.25, 2]))
            reflections = ("normal", "x", "y", "xy") if back_end == "xrandr" else ("normal", "x")
            one.reflect = draw(st.sampled_from(reflections))
            if back_end == "mutter":
                one.color_mode = draw(st.integers(0, 1))
                one.underscanning = draw(st.booleans())
                one.rgb_range = draw(st.integers(1, 2))
            one.priority = first + sum(other.mode is not None for other in server._all())
        elif server.plasma == "6.7":
            one.priority = draw(st.integers(0, count))
        server.monitors[one.name] = one
    if back_end in ("xrandr", "mutter") and (
        lit := [o for o in server._all() if o.mode is not None]
    ):
        draw(st.sampled_from(lit)).primary = True
    return server


def screen_of(back_end: str, server: Server) -> Screen:
    module = layouts.load(back_end)
    return module.parse(server.run(module.PROGRAM, list(module.QUERY)))


def apply(back_end: str, server: Server, wanted: Layout) -> None:
    module = layouts.load(back_end)
    server.run(module.PROGRAM, module.arguments(screen_of(back_end, server), wanted))


@pytest.mark.parametrize("back_end", BACK_ENDS)
@settings(deadline=None)
@given(data=st.data())
def test_any_change_and_back_is_the_same(back_end: str, data: st.DataObject) -> None:
    server = data.draw(servers(back_end))
    before = screen_of(back_end, server)
    shown = [one.mode is not None for one in server._all()]
    assert [one.is_on for one in before.layout.outputs] == shown
    other = screen_of(back_end, data.draw(servers(back_end))).layout
    wanted = Layout.of(one for one in other.outputs if one.name in before.layout.names)
    apply(back_end, server, wanted)
    assert screen_of(back_end, server).layout.looks_like(wanted)
    apply(back_end, server, Layout.parse(str(before.layout)))
    after = screen_of(back_end, server).layout
    # Numbers that began with 0 begin with 1 now.
    same_order = back_end == "kscreen" and before.layout.looks_like(after)
    assert after.looks_like(before.layout) and (after == before.layout or same_order)


@pytest.mark.parametrize("back_end", BACK_ENDS)
@settings(deadline=None)
@given(data=st.data())
def test_what_goes_off_leaves_a_layout_that_a_server_takes(
    back_end: str, data: st.DataObject
) -> None:
    """No gap, nothing before 0,0, a primary output where there was one, and all else as it was."""
    screen = screen_of(back_end, data.draw(servers(back_end)))
    lit = [one.name for one in screen.layout.outputs if one.is_on]
    gone = data.draw(st.sets(st.sampled_from(lit))) if lit else set()
    if len(gone) == len(lit):
        with pytest.raises(HookError, match="no output would be left on"):
            arrange(screen, gone, None, [])
        return
    layout = arrange(screen, gone, None, [])
    left = [one for one in layout.outputs if one.is_on]
    assert {one.name for one in left} == set(lit) - gone
    assert min(one.x for one in left) == min(one.y for one in left) == 0
    if gone:
        across = sorted((one.x, one.x + screen.size_of(one)[0]) for one in left)
        assert all(begin <= end for (_, end), (begin, _) in pairwise(across))
    had_primary = any(one.primary for one in screen.layout.outputs)
    assert sum(one.primary for one in left) == had_primary
    moved = [replace(one, x=0, y=0, primary=False).visible for one in left]
    same = [
        replace(one, x=0, y=0, primary=False).visible for one in screen.layout.only(lit).outputs
    ]
    assert moved == [one for one in same if one.name not in gone] or back_end == "kscreen"


def three() -> Server:
    return Server.of(
        Monitor("DP-1", MODES, 0, 0, 0, primary=True, crtc=0),
        Monitor("DP-2", MODES, 1, 2560, 0, rotate="left", crtc=1),
        Monitor("HDMI-1", MODES, None, crtc=2),
    )


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        (
            {"off": ["DP-1"]},
            "DP-1 off; DP-2 1920x1080@60.00 at=0,0 primary rotate=left; HDMI-1 off",
        ),
        (
            {"primary": "DP-2"},
            "DP-1 2560x1440@143.91 at=0,0; DP-2 1920x1080@60.00 at=2560,0 primary rotate=left;"
            " HDMI-1 off",
        ),
        (
            {"wishes": [{"name": "HDMI-1"}]},
            "DP-1 2560x1440@143.91 at=0,0 primary; DP-2 1920x1080@60.00 at=2560,0 rotate=left;"
            " HDMI-1 2560x1440@143.91 at=3640,0",
        ),
        (
            {"wishes": [{"name": "HDMI-1", "mode": "1280x720", "left-of": "DP-1", "scale": 2}]},
            "DP-1 2560x1440@143.91 at=2560,0 primary; DP-2 1920x1080@60.00 at=5120,0 rotate=left;"
            " HDMI-1 1280x720@60.00 at=0,0 scale=2",
        ),
        (
            {"wishes": [{"name": "DP-2", "rate": 59.94, "rotation": "normal", "below": "DP-1"}]},
            "DP-1 2560x1440@143.91 at=0,0 primary; DP-2 1920x1080@59.94 at=0,1440; HDMI-1 off",
        ),
        (
            {"off": ["DP-2"], "wishes": [{"name": "HDMI-1", "position": "2560,200"}]},
            "DP-1 2560x1440@143.91 at=0,0 primary; DP-2 off; HDMI-1 2560x1440@143.91 at=2560,200",
        ),
    ],
)
def test_wishes(wishes: dict[str, Any], expected: str) -> None:
    layout = arrange(
        screen_of("xrandr", three()), **{"off": (), "primary": None, "wishes": (), **wishes}
    )
    assert str(Layout(tuple(replace(one, more=()) for one in layout.outputs))) == expected


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"off": ["DP-9"]}, "no output 'DP-9'; connected are: DP-1, DP-2, HDMI-1"),
        ({"primary": "HDMI-1"}, "HDMI-1 cannot be the primary output: it is off"),
        ({"off": ["DP-1", "DP-2"]}, "no output would be left on"),
        (
            {"wishes": [{"name": "DP-1", "mode": "640x480"}]},
            "no mode '640x480'; there are: 2560x1440",
        ),
        (
            {"wishes": [{"name": "DP-2", "rate": 75}]},
            "no 1920x1080 at 75 Hz; there are: 60.00, 59.94",
        ),
        (
            {"wishes": [{"name": "DP-2", "right-of": "HDMI-1"}]},
            "cannot be right-of HDMI-1: it is off",
        ),
    ],
)
def test_what_the_screen_cannot_show(wishes: dict[str, Any], words: str) -> None:
    with pytest.raises(HookError) as caught:
        arrange(
            screen_of("xrandr", three()), **{"off": (), "primary": None, "wishes": (), **wishes}
        )
    assert words in str(caught.value)


def test_another_mode_leaves_the_colors_as_they_are() -> None:
    server = three()
    server.monitors["DP-1"].color_mode = 1
    wish: dict[str, str | int | float] = {"name": "DP-1", "mode": "1280x720"}
    layout = arrange(screen_of("mutter", server), (), None, [wish])
    apply("mutter", server, layout)
    assert (server.monitors["DP-1"].mode, server.monitors["DP-1"].color_mode) == (3, 1)


def test_an_id_need_not_outlive_a_cards_trip() -> None:
    server = three()
    before = screen_of("xrandr", server).layout
    card = server.monitors.pop("DP-2")
    server.monitors["DP-2"] = replace(card, modes=MODES[::-1], mode=None)
    apply("xrandr", server, before)
    assert screen_of("xrandr", server).layout.looks_like(before)


def test_the_cards_of_an_x_server() -> None:
    text = Server(
        providers=["AMD Radeon RX 550 @ pci:0000:09:00.0", "modesetting", "NVIDIA-G0"]
    ).xrandr(["--listproviders"])
    assert [(one.number, one.name, one.address) for one in providers(text)] == [
        (0, "AMD Radeon RX 550 @ pci:0000:09:00.0", "0000:09:00.0"),
        (1, "modesetting", None),
        (2, "NVIDIA-G0", None),
    ]


def a_screen(edids: dict[str, str] | None = None, *others: str) -> Screen:
    listed = [*(edids or {}), *others]
    return Screen(Layout.of(map(Output, listed)), {}, edids or {})


@pytest.mark.parametrize(
    ("screen", "connector", "expected"),
    [
        # amdgpu counts from 0, modesetting as the kernel does; the EDID is the better proof.
        (a_screen({"HDMI-A-0": "aa", "DisplayPort-2-3": "bb"}), ("DP-4", "bb"), "DisplayPort-2-3"),
        (a_screen({"HDMI-1": "aa", "DP-1-4": "bb"}), ("DP-4", "bb"), "DP-1-4"),
        (a_screen({"DP-0": "aa", "DP-5": "bb"}), ("DP-3", "bb"), "DP-5"),
        (a_screen({"DP-1-3": "aa", "DP-1-4": "aa", "DP-9": "aa"}), ("DP-9", "aa"), "DP-9"),
        (a_screen({"DP-1-3": "", "HDMI-1": ""}), ("DP-3", ""), "DP-1-3"),
        (a_screen({"DVI-D-0": "", "VGA-1": "aa"}), ("DVI-D-1", ""), "DVI-D-0"),
        (a_screen({"DUMMY0": ""}), ("Virtual-1", ""), None),
        # Another monitor's: X has none of this card.
        (a_screen({"HDMI-A-0": "aa", "DisplayPort-0": "bb"}), ("HDMI-A-1", "cc"), None),
        (a_screen({"HDMI-1": "aa", "DP-1": "bb"}), ("HDMI-A-1", "cc"), None),
        (a_screen({"HDMI-1": "aa"}), ("HDMI-A-2", ""), None),
        # nvidia's and radeon's.
        (a_screen({"HDMI-0": "", "DP-2": ""}), ("HDMI-A-1", ""), "HDMI-0"),
    ],
)
def test_the_output_of_a_connector(
    screen: Screen, connector: tuple[str, str], expected: str | None
) -> None:
    name, edid = connector
    there = [Connector(name, True, edid), Connector("DP-7", False, "")]
    assert outputs_on(screen, there, "xrandr") == ([expected] if expected else [])


@pytest.mark.parametrize(
    ("back_end", "outputs", "connector", "expected"),
    [
        ("wlroots", ("HDMI-A-1", "HDMI-A-2"), "HDMI-A-1", ["HDMI-A-1"]),
        ("kscreen", ("HDMI-A-1", "DP-1"), "DP-2", []),
        ("mutter", ("HDMI-2", "DP-2"), "HDMI-A-2", ["HDMI-2"]),
        ("mutter", ("HDMI-1", "DP-1"), "HDMI-A-2", []),
        ("mutter", ("HDMI-1", "DP-1"), "DP-1", ["DP-1"]),
    ],
)
def test_wayland_has_the_kernels_own_names(
    back_end: str, outputs: tuple[str, ...], connector: str, expected: list[str]
) -> None:
    screen = a_screen(None, *outputs)
    assert outputs_on(screen, [Connector(connector, True, "aa")], back_end) == expected


def test_two_outputs_that_may_be_the_cards_own_are_told() -> None:
    screen = a_screen({"DP-1-3": "aa", "DP-2-3": "aa"})
    dp_3 = [Connector("DP-3", True, "aa")]
    with pytest.raises(HookError, match="DP-3 of the passed card may be any one of DP-1-3, DP-2-3"):
        outputs_on(screen, dp_3, "xrandr", ["HDMI-1"])
    assert outputs_on(screen, dp_3, "xrandr", ["DP-2-3", "HDMI-1"]) == ["DP-2-3"]


@pytest.mark.parametrize(
    ("outputs", "elsewhere", "expected"),
    [
        (("DVI-D-1", "DVI-D-1-2"), {"DVI-D-1"}, ["DVI-D-1-2"]),
        (("DVI-D-2", "DVI-D-1-1"), {"DVI-D-1"}, ["DVI-D-2"]),
        (("DVI-D-3", "DVI-D-1-2"), {"HDMI-A-2", "DVI-D-3"}, ["DVI-D-1-2"]),
        # X shows nothing on the passed card.
        (("DVI-D-1", "HDMI-1-3"), {"DVI-D-1", "HDMI-A-3"}, []),
    ],
)
def test_identical_monitors_are_told_apart_by_the_kernels_numbers(
    outputs: tuple[str, ...], elsewhere: set[str], expected: list[str]
) -> None:
    screen = a_screen(dict.fromkeys(outputs, "aa"))
    dvi_2 = [Connector("DVI-D-2", True, "aa")]
    assert outputs_on(screen, dvi_2, "xrandr", (), elsewhere) == expected


def test_only_the_servers_own_card_has_no_number() -> None:
    assert [is_on_first_card(name) for name in ("HDMI-A-0", "eDP-1", "DP-1-2")] == [
        True,
        True,
        False,
    ]


DUMMY = """\
Screen 0: minimum 64 x 64, current 1024 x 768, maximum 32767 x 32767
DUMMY0 connected primary 1024x768+0+0 (0x5e) normal (normal) 0mm x 0mm
\tTimestamp:  121401
\tCRTC:       0
\tCRTCs:      0
\tTransform:  1.250000 0.000000 0.000000
\t            0.000000 1.500000 0.000000
\t            0.000000 0.000000 1.000000
\t           filter: bilinear
\tPanning: 1600x1200+0+0
\tTracking: 1600x1200+0+0
\tBorder: 0/0/0/0
\tHEIGHT_MM: 0
\t\trange: (0, 65535)
  1024x768 (0x5e) 65.000MHz -HSync -VSync *current
        h: width  1024 start 1048 end 1184 total 1344 skew    0 clock  48.36KHz
        v: height  768 start  771 end  777 total  806           clock  60.00Hz
DUMMY1 disconnected (normal)
\tCRTCs:      1
\tTransform:  1.000000 0.000000 0.000000
\t            0.000000 1.000000 0.000000
\t            0.000000 0.000000 1.000000
\t           filter:
  800x600 (0x61) 40.000MHz +HSync +VSync
        h: width   800 start  840 end  968 total 1056 skew    0 clock  37.88KHz
        v: height  600 start  601 end  605 total  628           clock  60.32Hz
DUMMY2 disconnected (normal)
\tCRTCs:      2
"""


def test_what_xrandr_prints_of_the_dummy_driver() -> None:
    """An output that is called disconnected can be used once it has modes."""
    screen = layouts.load("xrandr").parse(DUMMY)
    assert str(screen.layout) == (
        "DUMMY0 1024x768@60.00 at=0,0 primary scale=1.25x1.5 filter=bilinear"
        " panning=1600x1200+0+0/1600x1200+0+0/0/0/0/0; DUMMY1 off"
    )
    assert Layout.parse(str(screen.layout)) == screen.layout


corners = st.integers(0, 6).map(lambda number: number * 100)
sizes = st.integers(1, 4).map(lambda number: number * 100)
boxes = st.builds(lambda x, y, w, h: Box(x, y, x + w, y + h), corners, corners, sizes, sizes)


@settings(deadline=None)
@given(
    st.lists(boxes, min_size=1, max_size=5).map(
        lambda found: dict(zip("abcde"[: len(found)], found, strict=True))
    )
)
def test_what_is_closed_up_can_all_be_reached(there: dict[str, Box]) -> None:
    """Nothing changes its size, or overlaps what it did not overlap before."""
    after = closed_up(there)
    reached, names = {"a"}, set(there)
    for _ in names:
        reached |= {n for n in names if any(after[n].touches(after[one]) for one in reached)}
    assert reached == names
    for name, box in there.items():
        end = after[name]
        assert (end.right - end.left, end.bottom - end.top) == (
            box.right - box.left,
            box.bottom - box.top,
        )
        for other in names - {name}:
            assert box.overlaps(there[other]) or not after[name].overlaps(after[other])
    assert closed_up(after) == after


def test_a_corner_is_not_enough() -> None:
    screen = {"a": Box(0, 0, 100, 100), "b": Box(100, 0, 200, 100), "c": Box(200, 100, 300, 200)}
    del screen["b"]
    assert closed_up(screen)["c"] in (Box(100, 0, 200, 100), Box(0, 100, 100, 200))
    assert at_the_right_end(screen, Box(0, 0, 50, 50)) == Box(300, 100, 350, 150)


def a_row(*places: str, **more: Any) -> Screen:
    """Outputs of 100 by 100 pixels, from words like "A@0,0"; "A" alone is off."""
    outputs = []
    for name, at, place in (word.partition("@") for word in places):
        x, _, y = place.partition(",")
        outputs.append(Output(name, "100x100", "60", int(x), int(y)) if at else Output(name))
    modes = {one.name: (Mode("100x100", "60", 100, 100),) for one in outputs}
    return Screen(Layout.of(outputs), modes, **more)


@pytest.mark.parametrize(
    ("now", "joined", "expected"),
    [
        # Over what is restored; beside it; far away, which GNOME refuses.
        (("A@0,0", "N@0,0"), False, {"N": (200, 0)}),
        (("A@0,0", "N@150,50"), False, {"N": (200, 0)}),
        (("A@0,0", "N@200,0"), False, {}),
        (("A@0,0", "N@500,0"), False, {}),
        (("A@0,0", "N@500,0"), True, {"N": (200, 0)}),
        (("A@0,0", "N@0,0", "O@100,0"), True, {"N": (200, 0), "O": (300, 0)}),
        (("A@0,0", "N"), True, {}),
    ],
)
def test_strangers_go_to_the_right_end(
    now: tuple[str, ...], joined: bool, expected: dict[str, tuple[int, int]]
) -> None:
    screen = a_row(*now, "B", joined=joined)
    wanted = a_row("A@0,0", "B@100,0").layout
    whole, moved = with_strangers(screen, wanted)
    assert moved == sorted(expected)
    assert whole.only("AB") == wanted
    assert {one.name: (one.x, one.y) for one in whole.only(moved).outputs} == expected


@pytest.mark.parametrize(
    ("back_end", "wish", "scale"),
    [
        ("xrandr", 1.3, "1.3"),
        ("kscreen", 1.3333, "1.33333333"),
        ("mutter", 1.4, "1.25"),
        ("wlroots", 1.3333, "1.33203125"),
        # sway rounds to a 120th, and tells a 256th.
        ("wlroots", 1.01, "1.0078125"),
    ],
)
def test_a_scale_is_the_nearest_that_the_output_can_have(
    back_end: str, wish: float, scale: str
) -> None:
    server = three()
    layout = arrange(screen_of(back_end, server), (), None, [{"name": "DP-2", "scale": wish}])
    assert {one.name: one.scale for one in layout.outputs}["DP-2"] == scale
    apply(back_end, server, layout)
    again = screen_of(back_end, server).layout
    assert again.looks_like(layout)
    apply(back_end, server, again)
    assert screen_of(back_end, server).layout == again


def test_wlroots_knows_no_primary_output() -> None:
    with pytest.raises(HookError, match="DP-1 cannot be the primary output: this compositor"):
        arrange(screen_of("wlroots", three()), (), "DP-1", [])


def test_gnome_keeps_its_layout_mode() -> None:
    server = three()
    server.layout_mode = 2
    before = screen_of("mutter", server)
    apply("mutter", server, arrange(before, ["DP-1"], None, []))
    assert server.layout_mode == 2
    server.layout_mode = 1
    apply("mutter", server, before.layout)
    assert screen_of("mutter", server).layout == before.layout


@pytest.mark.parametrize("plasma", ["6.3", "6.7"])
@pytest.mark.parametrize("gone", ["DP-1", "DP-2", "HDMI-1"])
def test_the_order_of_kdes_outputs_comes_back(plasma: str, gone: str) -> None:
    """Counted from 0 as long as nobody has set one, with the primary output last by name."""
    server = three()
    server.plasma = plasma
    server.monitors["HDMI-1"].mode = 0
    for name, number in (("HDMI-1", 0), ("DP-2", 1), ("DP-1", 2)):
        server.monitors[name].priority = number + (plasma == "6.3")
    before = screen_of("kscreen", server).layout
    assert [one.name for one in before.outputs if one.primary] == ["HDMI-1"]
    without = arrange(screen_of("kscreen", server), [gone], None, [])
    apply("kscreen", server, without)
    assert screen_of("kscreen", server).layout.looks_like(without)
    apply("kscreen", server, before)
    assert screen_of("kscreen", server).layout.looks_like(before)
