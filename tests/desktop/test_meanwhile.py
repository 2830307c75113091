"""What happens to a real desktop between a VM's start and its end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.desktop.programs import BROKER, DAEMON
from tests.desktop.session import Desktop, running
from tests.desktop.test_layouts import light
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.layouts import load
from vfio_hooks.layouts.arrange import arrange
from vfio_hooks.layouts.layout import Layout
from vfio_hooks.record import replace

# Sockets at which nobody listens, for each program that asks.
NOWHERE = {
    "DISPLAY": ":99",
    "WAYLAND_DISPLAY": "wayland-99",
    "QT_QPA_PLATFORM": "wayland",
    "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/nobody",
}


def test_a_desktop_that_has_gone_is_known(desktop: Desktop) -> None:
    nowhere = desktop.beside(NOWHERE)
    with pytest.raises(Gone, match="no display server answers"):
        desktop.layout.read(nowhere)


@pytest.mark.not_on("xorg")
def test_what_it_has_placed_itself_comes_back(desktop: Desktop, tmp_path: Path) -> None:
    """Nobody has set anything yet: KWin 6.7 counts from 0, and labwc moves a third output when one
    goes off."""
    with running(Path(desktop.root), desktop.program, tmp_path / "log") as fresh:
        knob = fresh.layout
        before = knob.screen(fresh).layout
        for name in sorted(before.names):
            without = arrange(knob.screen(fresh), [name], None, ())
            knob.write(fresh, str(without))
            assert knob.screen(fresh).layout.looks_like(without)
            knob.write(fresh, str(before))
            assert knob.screen(fresh).layout.looks_like(before)


@pytest.mark.only("mutter")
def test_a_bus_that_gnome_is_not_on(desktop: Desktop) -> None:
    back_end = load("mutter")
    words = [word.replace("org.gnome.Mutter", "org.gnome.Nobody") for word in back_end.QUERY]
    with pytest.raises(Gone, match="no display server answers"):
        desktop.layout.ask(desktop, *words)


@pytest.mark.only("mutter")
def test_gnome_on_the_bus_of_other_distributions(desktop: Desktop, tmp_path: Path) -> None:
    """dbus-broker has words of its own for a name that nobody has."""
    program = replace(desktop.program, server=desktop.program.server.replace(DAEMON, BROKER))
    with running(Path(desktop.root), program, tmp_path / "log") as fresh:
        knob = fresh.layout
        before = knob.screen(fresh)
        first, *others = sorted(before.layout.names)
        knob.write(fresh, str(arrange(before, [first], None, ())))
        assert knob.screen(fresh).layout.lit == set(others)
        knob.write(fresh, str(before.layout))
        assert knob.screen(fresh).layout.looks_like(before.layout)
        query = load("mutter").QUERY
        nobody = [word.replace("org.gnome.Mutter", "org.gnome.Nobody") for word in query]
        with pytest.raises(HookError, match="Call failed: The name is not activatable"):
            fresh.show(["busctl", *nobody])
        with pytest.raises(Gone, match="no display server answers"):
            knob.ask(fresh, *nobody)


@pytest.mark.only("kwin", "mutter")
def test_other_compositors_say_that_they_are_no_wlroots(desktop: Desktop) -> None:
    client = {"WAYLAND_DISPLAY": desktop.wayland}
    with pytest.raises(HookError, match="wlr-output-management"):
        replace(desktop.layout, back_end="wlroots").read(desktop.beside(client))


@pytest.mark.only("sway")
def test_an_output_that_came_meanwhile_goes_to_the_right_end(desktop: Desktop) -> None:
    knob = desktop.layout
    names = sorted(knob.screen(desktop).layout.names)
    light(desktop, names)
    before = knob.read(desktop)
    knob.write(desktop, str(arrange(knob.screen(desktop), names[1:2], None, ())))
    desktop.sway("create_output")
    try:
        (new,) = knob.screen(desktop).layout.names - set(names)
        desktop.sway(f"output {new} position 1280 0")
        knob.write(desktop, before)
        after = knob.screen(desktop)
        assert after.layout.only(names) == Layout.parse(before)
        assert {one.name: one.x for one in after.layout.outputs}[new] == 3 * 1280
        assert any(
            f"{new} has been connected in the meantime: it goes to the right end" in one
            for one in desktop.told
        )
    finally:
        for output in json.loads(desktop.sway("-t get_outputs -r")):
            if output["name"] not in names:
                desktop.sway(f"output {output['name']} unplug")


@pytest.mark.only("mutter")
def test_gnomes_layout_mode_stays(desktop: Desktop) -> None:
    knob = desktop.layout
    names = sorted(knob.screen(desktop).layout.names)
    light(desktop, names)
    screen = knob.screen(desktop)
    if not screen.layout.outputs[0].extra("layout-mode"):
        pytest.skip("before version 50 it cannot be chosen without a setting of GNOME's")
    other = [replace(one, more=(("layout-mode", "physical"),)) for one in screen.layout.outputs]
    try:
        knob.write(desktop, str(Layout.of(other)))
        before = knob.read(desktop)
        assert before.count("layout-mode=physical") == 3
        knob.write(desktop, str(arrange(knob.screen(desktop), names[:1], None, ())))
        assert knob.read(desktop).count("layout-mode=physical") == 2
        knob.write(desktop, before)
        assert knob.read(desktop) == before
    finally:
        knob.write(desktop, str(screen.layout))
