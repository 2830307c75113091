"""Where each monitor's picture is: one model of it, and the programs that show and change it.

A back end is a module that knows one program: how to ask for the screen, how to read the answer
and which command makes a layout of it. It runs nothing itself. Undo reads layouts from journals,
so all of this needs no more than the standard library.
"""

from importlib import import_module
from typing import Protocol, cast

from vfio_hooks.layouts.layout import Layout, Screen


class BackEnd(Protocol):
    """What a module of this folder has to offer."""

    PROGRAM: str
    """The program, which has to be there; PACKAGE is where distributions have it."""
    PACKAGE: str
    QUERY: tuple[str, ...]
    """The arguments with which it shows the screen."""
    GONE: tuple[str, ...]
    """What it says when there is no display server (any more), as regular expressions."""
    LACKS: tuple[tuple[str, str], ...]
    """The same for what else it needs, with the packages of that."""
    WHY_GONE: str
    """What to add when outputs have not come back with their graphics card; "" for most."""

    def parse(self, text: str) -> Screen:
        """The screen from the program's answer. Raises ValueError, KeyError or IndexError."""

    def arguments(self, screen: Screen, wanted: Layout) -> list[str]:
        """The arguments that make `screen` show a layout, all of whose outputs it has."""


SUPPORTED = "X11, and on Wayland KDE, GNOME, and compositors with wlr-output-management (sway)"
_DESKTOPS = {"KDE": "kscreen", "GNOME": "mutter"}
# kscreen-doctor is the last: it waits for ever where KWin is not the compositor.
_ON_WAYLAND = ("wlroots", "mutter", "kscreen")


def back_ends_for(session_type: str, desktop: str) -> tuple[str, ...]:
    """The back ends to ask for a session of a type ("wayland") with a desktop as
    XDG_CURRENT_DESKTOP names it ("ubuntu:GNOME"), the likeliest first. Which compositor it is says
    only an answer: "LXQt:kwin_wayland" and the like have several."""
    if session_type == "wayland":
        named = (_DESKTOPS.get(part.upper()) for part in desktop.split(":"))
        return tuple(dict.fromkeys([*filter(None, named), *_ON_WAYLAND]))
    return ("xrandr",) if session_type == "x11" else ()


def load(name: str) -> BackEnd:
    """A back end, imported only now."""
    return cast(BackEnd, import_module(f"vfio_hooks.layouts.{name}"))
