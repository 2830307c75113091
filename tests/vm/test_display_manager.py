"""A real display manager, and the desktop behind it, that start without the card of a VM.

Pictures of both monitors, before, while and after the VM runs, stay in `pictures` in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm import debs, pictures
from tests.vm.cards import BLACK, Running, node, paint
from tests.vm.desktop import COMPOSITORS, Desktop
from tests.vm.desktop_disk import laid_over
from tests.vm.domains import Domain
from tests.vm.guest import Guest
from tests.vm.hardware import BOOT_VGA, GPU, GPU_GROUP, MONITORS
from tests.vm.lending import at_home, drivers, given, lent, managed_vm
from tests.vm.release import USER

SWAY = COMPOSITORS[0]
GAMING = Domain("gaming", given(*GPU_GROUP))
TABLES = '[session]\nrestart = "without-card"\n[gpu]\n[pci]\ntimeout = 60\n'
FOLDER = "/run/test-greeter"
CONFIGURATION = f"""\
[terminal]
vt = 7
[default_session]
command = "python3 {FOLDER}/login.py"
user = "_greetd"
"""
# The user has no password.
PAM = """\
auth required pam_permit.so
@include common-account
@include common-session
"""
# A login screen at which somebody logs in at once; greetd-ipc(7).
LOGIN = f"""\
import json, os, socket, struct
greetd = socket.socket(socket.AF_UNIX)
greetd.connect(os.environ["GREETD_SOCK"])
def say(**words):
    data = json.dumps(words).encode()
    greetd.sendall(struct.pack("=I", len(data)) + data)
    answer = greetd.recv(struct.unpack("=I", greetd.recv(4))[0])
    assert json.loads(answer)["type"] == "success", answer
say(type="create_session", username="{USER}")
environment = {[f"{name}={value}" for name, value in SWAY.environment.items()]!r}
say(type="start_session", cmd=["sway", "-c", "{FOLDER}/sway"],
    env=[*environment, "XDG_SESSION_TYPE=wayland"])
"""


@pytest.fixture
def running(hooked: Guest, tmp_path: Path) -> Iterator[Running]:
    """sway, which somebody starts at greetd's login screen."""
    if hooked.release != "forky":
        pytest.skip("wlroots 0.18 and older use a second card only if it can render")
    desktop = Desktop(hooked)
    debs.install(hooked, debs.fetch(hooked.release, ["greetd"], tmp_path))
    hooked.put("/etc/greetd/config.toml", CONFIGURATION)
    hooked.put("/etc/pam.d/greetd", PAM)
    hooked.put(f"{FOLDER}/login.py", LOGIN)
    hooked.put(f"{FOLDER}/sway", f"xwayland disable\nexec {paint(hooked)}\n")
    with laid_over(hooked):
        try:
            hooked.run("systemctl start display-manager")
            yield Running(desktop, SWAY)
        finally:
            hooked.run("systemctl stop display-manager", check=False)
            desktop.stop()
            desktop.leave_screen()
    hooked.run(f"dpkg --purge greetd && userdel _greetd && rm -r {FOLDER}")


@pytest.mark.matrix_only
def test_the_desktop_starts_without_the_card_while_the_vm_runs(running: Running) -> None:
    guest = running.guest
    is_shown(running, "before", *MONITORS)
    processes = {running.process()}
    with managed_vm(guest, GAMING, TABLES):
        plan = guest.run("vfio-hooks plan gaming").stdout
        assert "session: all programs of the session end, including sway (pid " in plan
        guest.start("gaming")
        assert drivers(guest, *GPU_GROUP) == lent(*GPU_GROUP)
        is_shown(running, "meanwhile", BOOT_VGA)
        assert pictures.colour(guest, GPU) == BLACK
        processes.add(running.process())
        guest.destroy("gaming")
    assert drivers(guest, *GPU_GROUP) == at_home(*GPU_GROUP)
    is_shown(running, "after", *MONITORS)
    processes.add(running.process())
    assert len(processes) == 3


def is_shown(running: Running, moment: str, *cards: str) -> None:
    """The desktop of a new login is on just these cards, and greetd has started it."""
    guest = running.guest
    # Until then a monitor may show the picture of the session before.
    guest.wait("pgrep -x swaybg")
    for card in cards:
        running.shows(card)
    assert running.opened() == sorted(node(guest, card) for card in cards)
    assert guest.run("systemctl is-active display-manager").stdout == "active\n"
    pictures.take(guest, f"greetd-{moment}")
