"""A desktop on both graphics cards of the emulated host, each with a monitor."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.vm import pictures
from tests.vm.desktop import Compositor, Desktop
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU
from vfio_hooks.layouts.layout import Layout
from vfio_hooks.wait import until

COLOURS = {BOOT_VGA: "#20507a", GPU: "#7a2050"}
BLACK = "#000000"
ON = "enabled"


@dataclass(frozen=True)
class Running:
    """A compositor that a user looks at."""

    desktop: Desktop
    compositor: Compositor

    @property
    def guest(self) -> Guest:
        return self.desktop.guest

    def start(self, **variables: str) -> None:
        """Start it, with a colour of its own on each monitor; a card that is not used is dark."""
        picture = paint_x11(self.guest) if self.compositor.name == "Xorg" else paint(self.guest)
        self.desktop.start_on_cards(self.compositor, picture, variables)
        self.shows(BOOT_VGA)

    def shows(self, address: str) -> str:
        """Wait until a monitor shows its colour; which it is."""
        seen: list[str] = []

        def is_painted() -> bool:
            seen[:] = [self._seen(address)]
            expected = ON if self.compositor.name == "Xorg" else COLOURS[address]
            paints_itself = self.compositor.name == "mutter"
            return seen[0] != BLACK if paints_itself else seen[0] == expected

        assert until(is_painted, 120), seen
        return seen[0]

    def _seen(self, address: str) -> str:
        """A monitor's colour. For Xorg it is only whether the monitor is on: what it draws with
        llvmpipe reaches bochs-drm's monitors late, or not at all."""
        if self.compositor.name != "Xorg":
            return pictures.colour(self.guest, address)
        return self.guest.run(f"cat {connector(address)}/enabled").stdout.strip()

    def opened(self) -> list[str]:
        """The cards that it has open."""
        folder = f"/proc/$(pgrep -x {self.compositor.name})/fd"
        find = f"find {folder} -lname '/dev/dri/card*' -printf '%l\\n' | sort -u"
        return self.guest.run(find).stdout.split()

    def process(self) -> str:
        """Its number, and when it was started."""
        name = self.compositor.name
        return self.guest.run(f"cut -d ' ' -f 1,22 /proc/$(pgrep -x {name})/stat").stdout

    def looks_like(self, before: Layout) -> bool:
        """Whether the layout is as it was, or gets so."""
        return until(lambda: self.desktop.layout(self.compositor).looks_like(before), 60)

    def picture(self, moment: str) -> None:
        pictures.take(self.guest, f"{self.compositor.name}-{moment}")


def paint(guest: Guest) -> str:
    """The program that gives each monitor its colour."""
    words = [f"-o {output(guest, card)} -c {colour[1:]}" for card, colour in COLOURS.items()]
    return f"swaybg {' '.join(words)}"


def paint_x11(guest: Guest) -> str:
    """The command that uses the other card's monitor, which X leaves dark, and paints both."""
    kind, _, number = output(guest, GPU).rpartition("-")
    beside = f"xrandr --output {kind}-1-{number} --auto --right-of {output(guest, BOOT_VGA)}"
    line = f"{beside} && xsetroot -solid '{COLOURS[GPU]}'"
    return f"sh -c {shlex.quote(line)}"


def output(guest: Guest, address: str) -> str:
    """The name of a card's connector, "Virtual-1"."""
    return guest.run(f"basename {connector(address)}").stdout.strip().partition("-")[2]


def connector(address: str) -> str:
    """The folder of a card's only connector, as the shell finds it."""
    return f"/sys/bus/pci/devices/{address}/drm/card*/card*-*"


def node(guest: Guest, address: str) -> str:
    return guest.run(f"readlink -f /dev/dri/by-path/pci-{address}-card").stdout.strip()
