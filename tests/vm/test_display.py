"""The display plugin with real display servers of three outputs: Xorg's dummy driver, sway."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.desktop import Desktop
from tests.vm.direct import HOOKS, Direct
from tests.vm.domains import Domain, HostDevice
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU, GPU_GROUP
from tests.vm.lending import at_home, drivers, given, held_open, lent
from tests.vm.release import USER

LAYOUT = (
    "--output DUMMY0 --mode 1024x768 --pos 1024x0 --primary"
    " --output DUMMY1 --mode 1024x768 --pos 0x100 --output DUMMY2 --mode 800x600 --pos 2048x0"
)
# In front of the real one, it tells who runs it, and under which AppArmor profile.
WRAPPER = """\
#!/bin/sh
echo "$(id -un) $(id -Gn) $(cat /proc/self/attr/current): $*" >> /tmp/who-ran-xrandr
exec /usr/bin/xrandr "$@"
"""
# What a desktop is to the kernel: it has every card open, and closes one when udev says that it
# has gone. The messages of udevd are those of the netlink's group 2.
COMPOSITOR = """\
import os, socket, sys
events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
events.bind((0, 2))
node = "/dev/dri/" + sys.argv[1]
held = os.open(node, os.O_RDWR)
while True:
    told = events.recv(65536)
    if f"/drm/{sys.argv[1]}\\0".encode() not in told:
        continue
    if b"ACTION=remove\\0" in told and held >= 0:
        held = os.close(held) or -1
    elif b"ACTION=add\\0" in told and held < 0:
        held = os.open(node, os.O_RDWR)
"""
WISHES = """\
[display]
off = ["DUMMY1"]
primary = "DUMMY2"
outputs = [{ name = "DUMMY0", mode = "800x600", rate = 56 }]
"""


@pytest.fixture
def desktop(hooked: Guest) -> Iterator[Desktop]:
    started = Desktop(hooked)
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture
def x11(desktop: Desktop) -> Iterator[Desktop]:
    desktop.start_x11()
    for output in ("DUMMY1", "DUMMY2"):
        for mode in ("1024x768", "800x600"):
            desktop.x(f"xrandr --addmode {output} {mode}")
    desktop.x(f"xrandr {LAYOUT}")
    desktop.guest.put("/usr/local/bin/xrandr", WRAPPER, "0755")
    yield desktop
    desktop.guest.run("rm -f /usr/local/bin/xrandr /tmp/who-ran-xrandr")


def shown(desktop: Desktop) -> str:
    """All that RandR knows, but for when it was told."""
    text = desktop.x("/usr/bin/xrandr --verbose")
    lines = [line for line in text.splitlines() if "Timestamp:" not in line]
    return "\n".join(lines)


def brief(desktop: Desktop) -> list[str]:
    """The outputs that are on, as xrandr's plain list has them."""
    found = [line for line in shown(desktop).splitlines() if " connected " in line]
    return [line.partition(" (0x")[0] for line in found if "(0x" in line]


@pytest.mark.matrix_only
def test_a_vms_life_leaves_the_layout_as_it_was(x11: Desktop) -> None:
    guest, domain = x11.guest, Domain("gaming")
    guest.put(f"{HOOKS}/qemu.d/gaming/vm.toml", WISHES)
    guest.define(domain)
    before = shown(x11)
    print("before:", *brief(x11), sep="\n  ")
    try:
        guest.start("gaming")
        print("while it runs:", *brief(x11), sep="\n  ")
        print(guest.run("vfio-hooks status").stdout)
        assert brief(x11) == [
            "DUMMY0 connected 800x600+0+0",
            "DUMMY2 connected primary 800x600+1024+0",
        ]
        guest.destroy("gaming")
        after = shown(x11)
        print("after:", *brief(x11), sep="\n  ")
        assert after == before
        who = guest.read("/tmp/who-ran-xrandr")
        print(who)
        # The hook itself is confined by libvirtd's profile, and root.
        starts = {line.partition(": ")[0] for line in who.splitlines()}
        assert len(starts) == 1 and next(iter(starts)).startswith(f"{USER} {USER} ")
        assert next(iter(starts)).endswith("unconfined") and "root" not in who
        assert "--output DUMMY1 --off" in who
    finally:
        guest.remove("gaming")
        guest.run(f"rm -rf {HOOKS}/qemu.d/gaming")


@pytest.mark.matrix_only
def test_what_happens_to_the_desktop_meanwhile(x11: Desktop) -> None:
    direct = Direct(x11.guest)
    try:
        # The card that the desktop runs on, for all that X tells: an error, and nothing changed.
        before = shown(x11)
        direct.manage(Domain("gaming", (HostDevice(BOOT_VGA),)), WISHES)
        said = direct.start("gaming")
        assert f"{BOOT_VGA} is the boot display, and {USER} has a desktop on :77" in said
        assert "the firmware" in said and shown(x11) == before
        # An output that is not there, and one that somebody changes meanwhile.
        direct.manage(Domain("gaming"), '[display]\noff = ["HDMI-1"]')
        assert "connected are: DUMMY0, DUMMY1, DUMMY2" in direct.start("gaming")
        direct.manage(Domain("gaming"), WISHES)
        assert direct.start("gaming") == ""
        x11.x("/usr/bin/xrandr --output DUMMY0 --mode 640x480")
        changed = shown(x11)
        direct.stop("gaming")
        assert shown(x11) == changed
        # The X server ends before the VM does.
        x11.x(f"/usr/bin/xrandr {LAYOUT}")
        assert direct.start("gaming") == ""
        x11.guest.run("systemctl stop test-xorg.service")
        direct.stop("gaming")
        log = x11.guest.log()
        told = f"layout of {USER}'s :77: "
        assert f"gaming: {told}somebody else has set it to" in log
        assert f"gaming: {told}no display server answers: nothing to undo" in log
        x11.stop()
        said = direct.start("gaming")
        assert "nobody has a graphical session" in said
    finally:
        direct.forget()


def test_sway(desktop: Desktop) -> None:
    if desktop.guest.release == "bookworm":
        pytest.skip("sway 1.7 applies no change to outputs that are headless")
    direct = Direct(desktop.guest)
    desktop.start_sway()
    place = "--custom-mode 1280x720 --pos 3000,40 --transform flipped-90 --scale 1.5"
    desktop.wayland(f"wlr-randr --output HEADLESS-1 {place}")
    try:
        direct.manage(
            Domain("gaming"),
            '[display]\noff = ["HEADLESS-2"]\n'
            'outputs = [{ name = "HEADLESS-3", left-of = "HEADLESS-1", rotation = "left" }]',
        )
        before = desktop.wayland("wlr-randr")
        assert direct.start("gaming") == ""
        meanwhile = desktop.wayland("wlr-randr")
        print(before, meanwhile, sep="\nwhile it runs:\n")
        second = meanwhile[meanwhile.index("HEADLESS-2") :].partition("HEADLESS-1")[0]
        assert "Enabled: no" in second and "Transform: 90" in meanwhile
        direct.stop("gaming")
        assert desktop.wayland("wlr-randr") == before
    finally:
        direct.forget()


def test_the_desktop_closes_the_passed_card(x11: Desktop) -> None:
    guest, direct = x11.guest, Direct(x11.guest)
    card = guest.run(f"basename /sys/bus/pci/devices/{GPU}/drm/card*").stdout.strip()
    node = f"/dev/dri/{card}"
    guest.put("/tmp/compositor.py", COMPOSITOR)
    guest.start_unit("compositor", f"python3 /tmp/compositor.py {card}")
    try:
        guest.wait(f"fuser --silent {node}")
        domain = Domain("gaming", given(*GPU_GROUP, managed=False))
        direct.manage(domain, "[display]\nrelease = false\n[pci]\ntimeout = 3\n")
        assert f"{GPU}: still in use after 3 s: python3 (pid " in direct.start("gaming")
        direct.manage(domain, "[display]\n[pci]\ntimeout = 15\n")
        # Its driver never left, so nobody but the undo tells that the card is there again.
        with held_open(guest, node):
            assert f"{GPU}: still in use after 15 s: sleep (pid " in direct.start("gaming")
        guest.wait(f"fuser --silent {node} && test -L /dev/dri/by-path/pci-{GPU}-card")
        direct.manage(domain, "[display]\n[pci]\ntimeout = 60\n")
        assert direct.start("gaming") == ""
        assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
        direct.stop("gaming")
        assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
        guest.wait(f"test -L /dev/dri/by-path/pci-{GPU}-card")
    finally:
        direct.forget()
        guest.run("systemctl stop compositor; rm /tmp/compositor.py", check=False)
