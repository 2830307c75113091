"""What the monitors of the emulated host show, as QEMU sees it."""

from __future__ import annotations

from pathlib import Path

from tests.vm import cache, qmp
from tests.vm.guest import Guest
from tests.vm.hardware import MONITORS


def folder() -> Path:
    """Where pictures stay for a person to look at."""
    path = cache.root() / "pictures"
    path.mkdir(exist_ok=True)
    return path


def take(guest: Guest, name: str) -> None:
    """Make a file of each monitor's picture, called by the address of its card."""
    for address in MONITORS:
        _dump(guest, address, folder() / f"{guest.release}-{name}-{address}.png", "png")


def colour(guest: Guest, address: str) -> str:
    """The colour in the middle of a monitor, "#20507a"."""
    path = guest.machine.folder / "screen.ppm"
    _dump(guest, address, path, "ppm")
    _, size, _, pixels = path.read_bytes().split(b"\n", 3)
    width, height = map(int, size.split())
    middle = 3 * (height // 2 * width + width // 2)
    return f"#{pixels[middle : middle + 3].hex()}"


def _dump(guest: Guest, address: str, path: Path, format: str) -> None:
    words = {"device": MONITORS[address], "filename": str(path), "format": format}
    qmp.ask(guest.machine.folder, "screendump", **words)
