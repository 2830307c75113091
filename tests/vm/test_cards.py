"""Real desktops on two graphics cards with a monitor on each, of which a VM is given one.

Pictures of both monitors, before, while and after the VM runs, stay in `pictures` in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.cards import Running, node
from tests.vm.desktop import COMPOSITORS, Desktop
from tests.vm.desktop_disk import laid_over
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU, GPU_GROUP, MONITORS
from tests.vm.lending import at_home, drivers, given, lent, managed_vm
from tests.vm.release import USER

GAMING = Domain("gaming", given(*GPU_GROUP))
TABLES = "[display]\ntimeout = {seconds}\n[gpu]\n[pci]\ntimeout = 60\n"
HOME = f"/home/{USER}"
SETTING = f"{HOME}/.config/environment.d/72-vfio-hooks.conf"
RULES = "/etc/udev/rules.d/72-vfio-hooks.rules"
APPLY = "udevadm control --reload && udevadm trigger --settle --subsystem-match=drm"


def each(*names: str) -> pytest.MarkDecorator:
    """A test of these compositors, one after the other."""
    chosen = [one for one in COMPOSITORS if one.name in names]
    return pytest.mark.parametrize("running", chosen, ids=names, indirect=True)


@pytest.fixture
def running(hooked: Guest, request: pytest.FixtureRequest) -> Iterator[Running]:
    if hooked.release in ("bookworm", "trixie"):
        pytest.skip("wlroots 0.18 and older use a second card only if it can render")
    desktop = Desktop(hooked)
    with laid_over(hooked):
        try:
            yield Running(desktop, request.param)
        finally:
            desktop.stop()
            desktop.leave_screen()
            folders = " ".join(f"{HOME}/{name}" for name in (".config", ".cache", ".local"))
            hooked.run(f"rm -rf {RULES} {folders} && {APPLY}")


@pytest.mark.matrix_only
@each("sway", "labwc", "kwin_wayland", "Xorg")
def test_it_lets_go_of_the_card_and_takes_it_back(running: Running) -> None:
    guest, desktop = running.guest, running.desktop
    running.start()
    running.shows(GPU)
    cards = sorted(node(guest, address) for address in MONITORS)
    assert running.opened() == cards
    process, layout = running.process(), desktop.layout(running.compositor)
    running.picture("before")
    with managed_vm(guest, GAMING, TABLES.format(seconds=60)):
        plan = guest.run("vfio-hooks plan gaming").stdout
        assert f"has {node(guest, GPU)} open: it closes the card when [display]" in plan
        # logind has it open for sway, and systemd for logind.
        assert "systemd" not in plan
        guest.start("gaming")
        assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
        assert running.opened() == [node(guest, BOOT_VGA)]
        assert running.process() == process
        running.picture("meanwhile")
        running.shows(BOOT_VGA)
        guest.destroy("gaming")
    assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
    assert running.opened() == cards
    assert running.process() == process and running.looks_like(layout)
    running.shows(GPU)
    running.picture("after")


@pytest.mark.matrix_only
@each("sway", "labwc", "kwin_wayland", "mutter")
def test_one_that_is_told_never_opens_the_card(running: Running) -> None:
    guest, desktop = running.guest, running.desktop
    running.start()
    with managed_vm(guest, GAMING, TABLES.format(seconds=60)):
        guest.run(f"vfio-hooks desktop gaming --write --yes && {APPLY}")
        desktop.stop()
        running.start(**written(guest))
        assert "the desktop uses it" in guest.run("vfio-hooks desktop gaming").stdout
        process, layout = running.process(), desktop.layout(running.compositor)
        own = [node(guest, BOOT_VGA)]
        assert running.opened() == own
        guest.start("gaming")
        assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
        assert running.process() == process and running.looks_like(layout)
        running.picture("told-meanwhile")
        guest.destroy("gaming")
        assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
        assert running.opened() == own
        assert running.process() == process and running.looks_like(layout)
        assert f"{RULES}: removed" in guest.run("vfio-hooks desktop gaming --remove").stdout
        assert guest.run(f"test ! -e {RULES} -a ! -e {SETTING}").returncode == 0


def written(guest: Guest) -> dict[str, str]:
    """The variables of the setting, which a login would have."""
    lines = guest.run(f"cat {SETTING}", check=False).stdout.splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.matrix_only
@each("mutter")
def test_gnome_that_is_not_told_has_the_card_back_only_at_the_next_login(running: Running) -> None:
    """With a driver that renders it may even keep the card open; bochs-drm's does not."""
    guest = running.guest
    running.start()
    running.shows(GPU)
    process, (own,) = running.process(), [node(guest, BOOT_VGA)]
    running.picture("before")
    with managed_vm(guest, GAMING, TABLES.format(seconds=10)):
        card = node(guest, GPU)
        plan = guest.run("vfio-hooks plan gaming").stdout
        assert f"has {card} open: it must be configured before login" in plan
        guest.start("gaming")
        assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
        assert running.opened() == [own] and running.process() == process
        running.picture("meanwhile")
        guest.destroy("gaming")
        assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
        assert running.opened() == [own] and running.process() == process
        running.shows(BOOT_VGA)
        assert "no longer connected, so left out: Virtual-" in guest.log()
    running.desktop.stop()
    running.start()
    assert running.opened() == sorted([own, node(guest, GPU)])
    running.shows(GPU)
    running.picture("next-login")
