"""A real desktop on two graphics cards with a monitor on each, of which a VM is given one.

Pictures of both monitors, before, while and after the VM runs, stay in `pictures` in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm import pictures
from tests.vm.desktop import Desktop
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU, GPU_GROUP, MONITORS
from tests.vm.lending import at_home, drivers, given, lent, managed_vm
from tests.vm.release import USER
from vfio_hooks.wait import until

COLOURS = {BOOT_VGA: "#20507a", GPU: "#7a2050"}
GAMING = Domain("gaming", given(*GPU_GROUP))
TABLES = "[display]\ntimeout = 60\n[gpu]\n[pci]\ntimeout = 60\n"
SETTING = f"/home/{USER}/.config/environment.d/72-vfio-hooks.conf"
RULES = "/etc/udev/rules.d/72-vfio-hooks.rules"
APPLY = "udevadm control --reload && udevadm trigger --settle --subsystem-match=drm"


@pytest.fixture
def desktop(hooked: Guest) -> Iterator[Desktop]:
    if hooked.release in ("bookworm", "trixie"):
        pytest.skip("wlroots 0.18 and older use a second card only if it can render")
    started = Desktop(hooked)
    try:
        yield started
    finally:
        started.stop()
        started.leave_screen()


def start(desktop: Desktop, **variables: str) -> None:
    """sway, with a colour of its own on each monitor."""
    lines = [
        f"output {output(desktop.guest, address)} background {colour} solid_color\n"
        for address, colour in COLOURS.items()
    ]
    desktop.start_sway_on_cards("".join([*lines, "bar font monospace 24\n"]), variables)
    shows(desktop.guest, BOOT_VGA)


def output(guest: Guest, address: str) -> str:
    """The name of a card's connector, "Virtual-1"."""
    path = f"/sys/bus/pci/devices/{address}/drm/card*/card*-*"
    return guest.run(f"basename {path}").stdout.strip().partition("-")[2]


def node(guest: Guest, address: str) -> str:
    return guest.run(f"readlink -f /dev/dri/by-path/pci-{address}-card").stdout.strip()


def opened(guest: Guest) -> list[str]:
    """The cards that sway has open."""
    find = "find /proc/$(pgrep -x sway)/fd -lname '/dev/dri/card*' -printf '%l\\n' | sort -u"
    return guest.run(find).stdout.split()


def process(guest: Guest) -> str:
    """sway's number, and when it was started."""
    return guest.run("cut -d ' ' -f 1,22 /proc/$(pgrep -x sway)/stat").stdout


def shows(guest: Guest, address: str) -> None:
    """Wait until a monitor shows its colour."""
    assert until(lambda: pictures.colour(guest, address) == COLOURS[address], 120)


@pytest.mark.matrix_only
def test_sway_lets_go_of_the_card_and_takes_it_back(desktop: Desktop) -> None:
    guest = desktop.guest
    start(desktop)
    shows(guest, GPU)
    cards = sorted(node(guest, address) for address in MONITORS)
    assert opened(guest) == cards
    before = process(guest), desktop.wayland("wlr-randr")
    pictures.take(guest, "sway-before")
    with managed_vm(guest, GAMING, TABLES):
        plan = guest.run("vfio-hooks plan gaming").stdout
        assert f"has {node(guest, GPU)} open: it closes the card when [display]" in plan
        # logind has it open for sway, and systemd for logind.
        assert "systemd" not in plan
        guest.start("gaming")
        assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
        assert opened(guest) == [node(guest, BOOT_VGA)]
        assert process(guest) == before[0]
        pictures.take(guest, "sway-meanwhile")
        assert pictures.colour(guest, BOOT_VGA) == COLOURS[BOOT_VGA]
        guest.destroy("gaming")
    assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
    assert opened(guest) == cards
    assert (process(guest), desktop.wayland("wlr-randr")) == before
    shows(guest, GPU)
    pictures.take(guest, "sway-after")


@pytest.mark.matrix_only
def test_sway_that_is_told_never_opens_the_card(desktop: Desktop) -> None:
    guest = desktop.guest
    start(desktop)
    with managed_vm(guest, GAMING, TABLES):
        try:
            guest.run(f"vfio-hooks desktop gaming --write --yes && {APPLY}")
            written = [line for line in guest.read(SETTING).splitlines() if "=" in line]
            desktop.stop()
            start(desktop, **dict(line.split("=", 1) for line in written))
            assert "the desktop uses it" in guest.run("vfio-hooks desktop gaming").stdout
            before = process(guest), desktop.wayland("wlr-randr")
            own = [node(guest, BOOT_VGA)]
            assert opened(guest) == own
            guest.start("gaming")
            assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
            assert (process(guest), desktop.wayland("wlr-randr")) == before
            pictures.take(guest, "told-sway-meanwhile")
            guest.destroy("gaming")
            assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
            assert opened(guest) == own
            assert (process(guest), desktop.wayland("wlr-randr")) == before
            assert f"{SETTING}: removed" in guest.run("vfio-hooks desktop gaming --remove").stdout
        finally:
            guest.run(f"rm -rf {RULES} /home/{USER}/.config && {APPLY}")
