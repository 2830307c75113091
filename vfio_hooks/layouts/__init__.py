"""Where each monitor's picture is: one model of that, and the programs that show and change it.

A back end is a module that knows one program: how to ask for the screen, how to read the answer,
and which command sets a layout. It runs nothing itself. An undo reads layouts from journals, so all
of this needs only the standard library.
"""

from importlib import import_module
from typing import Protocol, cast

from vfio_hooks.layouts.layout import Layout, Screen


class BackEnd(Protocol):
    """What a module of this folder has to offer."""

    PROGRAM: str
    """The program that is needed; PACKAGE says which package of each distribution has it."""
    PACKAGE: str
    QUERY: tuple[str, ...]
    """The arguments with which it shows the screen."""
    GONE: tuple[str, ...]
    """What it prints if there is no display server (any more), as regular expressions."""
    LACKS: tuple[tuple[str, str], ...]
    """What it prints if something else is missing, as regular expressions, with the packages."""
    WHY_GONE: str
    """What to add when outputs have not come back with their graphics card; "" for most."""

    def parse(self, text: str) -> Screen:
        """The screen from the program's answer. Raises ValueError, KeyError or IndexError."""

    def arguments(self, screen: Screen, wanted: Layout) -> list[str]:
        """The arguments that make `screen` show a layout. The screen has all of its outputs."""


SUPPORTED = "X11, and on Wayland KDE, GNOME, and compositors with wlr-output-management (sway)"
_DESKTOPS = {"KDE": "kscreen", "GNOME": "mutter"}
# kscreen-doctor is the last: it waits forever if KWin is not the compositor.
_ON_WAYLAND = ("wlroots", "mutter", "kscreen")


def back_ends_for(session_type: str, desktop: str) -> tuple[str, ...]:
    """The back ends to try for a session of this type ("wayland") and desktop, as in
    XDG_CURRENT_DESKTOP ("ubuntu:GNOME"), the likeliest first. Only an answer shows which compositor
    it is, as "LXQt:kwin_wayland" and the like can have several."""
    if session_type == "wayland":
        named = (_DESKTOPS.get(part.upper()) for part in desktop.split(":"))
        return tuple(dict.fromkeys([*filter(None, named), *_ON_WAYLAND]))
    return ("xrandr",) if session_type == "x11" else ()


def load(name: str) -> BackEnd:
    """A back end, imported only now."""
    return cast(BackEnd, import_module(f"vfio_hooks.layouts.{name}"))
