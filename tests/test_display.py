"""The display plugin on hosts that are folders, with programs that show a screen of the test's."""

import getpass
import json
import os
import pwd
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import display_server
from tests.fakes.display_server import Monitor, Server
from tests.fakes.kernel import Lines
from tests.fakes.logind import add_session
from tests.hosttree import add_pci
from vfio_hooks import commands
from vfio_hooks.domain import Domain, PciFunction
from vfio_hooks.engine import Engine
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.knobs.display_layout import DisplayLayout
from vfio_hooks.plugins.display import Options, notes, plan
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

pytestmark = pytest.mark.real_processes
PREPARE = Event("win11", "prepare")
UUID = "00000000-0000-0000-0000-000000000001"
GPU = "0000:45:00.0"
MODES = [(2560, 1440, 143.912), (1920, 1080, 60.0)]
RX_550 = "AMD Radeon RX 550 @ pci:0000:09:00.0"
RX_6900 = f"AMD Radeon RX 6900 XT @ pci:{GPU}"
ME = getpass.getuser()


class Tree(WritableHost):
    """Files below a root, but programs of this machine."""

    @property
    def is_this_machine(self) -> bool:
        return True


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Desktop":
    programs, state = tmp_path / "bin", tmp_path / "screen.json"
    programs.mkdir()
    program = f"SCREEN={state} PYTHONPATH={os.getcwd()} {sys.executable} -S -c '{_MAIN}'"
    for name in display_server.PROGRAMS:
        (programs / name).write_text(f'#!/bin/sh\nexec env {program} {name} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setattr(commands, "SEARCH", f"{programs}:{commands.SEARCH}")
    # On a busy machine a program answers late, which is nobody's fault.
    monkeypatch.setattr("vfio_hooks.knobs.display_layout.COMMAND_SECONDS", 60)
    return Desktop(tmp_path / "host", state, StateFolder(str(tmp_path / "state")))


_MAIN = "import sys; from tests.fakes.display_server import main; main(sys.argv[1], sys.argv[2:])"


class Desktop:
    """A host whose user, who runs the tests, looks at a screen."""

    def __init__(self, root: Path, state: Path, folder: StateFolder) -> None:
        self.root, self.state = root, state
        self.host, self.log = Tree(str(root)), Lines()
        self.engine = Engine(self.host, folder, self.log)

    def log_in(self, server: Server, **session: str) -> None:
        uid = str(pwd.getpwnam(ME).pw_uid)
        add_session(self.root, "2", ME, uid, **{"DISPLAY": ":0", **session})
        self.show(server)

    def show(self, server: Server) -> None:
        self.state.write_text(json.dumps(asdict(server)))

    @property
    def shown(self) -> dict[str, Any]:
        """Each monitor as the display server has it."""
        data: dict[str, Any] = json.loads(self.state.read_text())
        return {name: {**one, "priority": 0} for name, one in data["monitors"].items()}

    @property
    def lit(self) -> list[str]:
        return [name for name, one in self.shown.items() if one["mode"] is not None]

    def change(self, name: str, **values: Any) -> None:
        """Change these fields of a monitor."""
        data = json.loads(self.state.read_text())
        data["monitors"][name] |= values
        self.state.write_text(json.dumps(data))

    def without(self, name: str) -> None:
        """Take an output away, or bring another one."""
        data = json.loads(self.state.read_text())
        del data["monitors"][name]
        self.state.write_text(json.dumps(data))

    def add_gpu(self, *connectors: tuple[str, str], boot: bool = False) -> None:
        add_pci(self.root, GPU, "amdgpu")
        folder = self.root / "sys/bus/pci/devices" / GPU
        (folder / "boot_vga").write_text(f"{int(boot)}\n")
        for name, edid in connectors:
            place = folder / "drm/card1" / f"card1-{name}"
            place.mkdir(parents=True)
            (place / "status").write_text("connected\n")
            (place / "edid").write_bytes(bytes.fromhex(edid))

    def plan(self, **options: Any) -> list[Step]:
        domain = Domain("win11", UUID, pci=(PciFunction(GPU, True, "hostdev"),))
        return list(plan(PREPARE, domain, Options(**options), self.host))

    def start(self, **options: Any) -> None:
        self.engine.perform("prepare", UUID, "win11", lambda _: self.plan(**options))

    def stop(self) -> list[str]:
        """Undo as in the event of a new process, which knows nothing about the start's process."""
        host = Tree(str(self.root))
        return Engine(host, self.engine.folder, self.log).undo("release", UUID)


def two_cards() -> Server:
    """The guide's screen: a monitor of each card, the second one's left of the first one's."""
    return Server.of(
        Monitor("HDMI-A-0", MODES, 1, 2560, 0, edid="aa" * 128, crtc=0),
        Monitor("DisplayPort-2-3", MODES, 0, 0, 0, edid="bb" * 128, crtc=1, primary=True),
        providers=(RX_550, RX_6900),
    )


def test_an_empty_table_switches_the_passed_cards_outputs_off(desktop: Desktop) -> None:
    desktop.add_gpu(("DP-4", "bb" * 128), ("DP-5", ""))
    desktop.log_in(two_cards())
    before = desktop.shown
    (step,) = desktop.plan()
    assert step.key == f"layout of {ME}'s :0"
    desktop.start()
    assert desktop.lit == ["HDMI-A-0"]
    assert desktop.shown["HDMI-A-0"]["primary"] and desktop.shown["HDMI-A-0"]["x"] == 0
    assert desktop.stop() == []
    assert desktop.shown == before


@pytest.mark.parametrize(
    ("providers", "off"),
    [
        (("modesetting", "modesetting"), "DVI-D-1-2"),
        (("modesetting", "NVIDIA-G0"), None),
        ((), None),
    ],
)
def test_identical_monitors_are_told_apart_where_x11_has_the_kernels_numbers(
    desktop: Desktop, providers: tuple[str, ...], off: str | None
) -> None:
    desktop.add_gpu(("DVI-D-2", "aa" * 128))
    for name in ("card0", "card0-DVI-D-1", "card1", "card1-DVI-D-2", "renderD128"):
        (desktop.root / "sys/class/drm" / name).mkdir(parents=True)
    both = (
        Monitor("DVI-D-1", MODES, 1, 0, 0, edid="aa" * 128, crtc=0, primary=True),
        Monitor("DVI-D-1-2", MODES, 1, 1920, 0, edid="aa" * 128, crtc=1),
    )
    desktop.log_in(Server.of(*both, providers=providers))
    if off is None:
        with pytest.raises(HookError, match=r"DVI-D-2 .* any one of DVI-D-1, DVI-D-1-2"):
            desktop.plan()
    else:
        desktop.start()
        assert desktop.lit == ["DVI-D-1"]


def test_the_desktop_is_told_to_close_the_passed_card(desktop: Desktop) -> None:
    desktop.add_gpu(("DP-4", "bb" * 128))
    desktop.log_in(two_cards())
    card = desktop.root / "sys/bus/pci/devices" / GPU / "drm/card1"
    (card / "dev").write_text("226:1\n")
    record = desktop.root / "run/udev/data/c226:1"
    record.parent.mkdir(parents=True)
    assert len(desktop.plan()) == 1
    record.touch()
    layout, told = desktop.plan()
    assert layout.key.startswith("layout of") and told.share == Override("withdrawn")
    assert told.key == f"/sys/bus/pci/devices/{GPU}/drm/card1/uevent"
    assert desktop.plan(release=False) == [layout]


WAYLAND = {"TYPE": "wayland", "DISPLAY": ""}


@pytest.mark.parametrize(
    ("desktop_name", "program", "output"),
    [
        ("KDE", "kscreen-doctor", "HDMI-A-1"),
        ("ubuntu:GNOME", "busctl", "HDMI-1"),
        ("sway", "wlr-randr", "HDMI-A-1"),
        ("", "wlr-randr", "HDMI-A-1"),
    ],
)
def test_the_same_on_wayland(
    desktop: Desktop, desktop_name: str, program: str, output: str
) -> None:
    desktop.add_gpu(("HDMI-A-1", "cc"))
    desktop.log_in(
        Server.of(
            Monitor(output, MODES, 0, 0, priority=2),
            Monitor("DP-1", MODES, 1, 2560, 300, primary=True, priority=1),
        ),
        DESKTOP=desktop_name,
        **WAYLAND,
    )
    before = desktop.shown
    desktop.start()
    assert desktop.lit == ["DP-1"]
    assert (desktop.shown["DP-1"]["x"], desktop.shown["DP-1"]["y"]) == (0, 0)
    assert desktop.stop() == []
    assert desktop.shown == before
    assert {call[0] for call in json.loads(desktop.state.read_text())["calls"]} == {program}


def test_outputs_that_are_gone_are_told_and_the_others_restored(desktop: Desktop) -> None:
    desktop.log_in(two_cards())
    desktop.start(off=["HDMI-A-0"], timeout=0.2)
    desktop.without("DisplayPort-2-3")
    assert desktop.stop() == []
    assert desktop.lit == ["HDMI-A-0"]
    told = "no longer connected, so left out: DisplayPort-2-3"
    assert any(told in line for line in desktop.log.infos)


def test_gnome_s_outputs_of_a_card_that_was_away_take_a_new_login(desktop: Desktop) -> None:
    desktop.add_gpu(("HDMI-A-1", "cc"))
    left, right = Monitor("HDMI-1", MODES, 0, 0), Monitor("DP-1", MODES, 1, 2560, primary=True)
    desktop.log_in(Server.of(left, right), DESKTOP="GNOME", **WAYLAND)
    desktop.start(timeout=0.2)
    desktop.without("HDMI-1")
    assert desktop.stop() == []
    told = "left out: HDMI-1 (GNOME uses a graphics card that was away only after a new login)"
    assert any(line.endswith(told) for line in desktop.log.infos)


def test_a_card_that_comes_back_under_another_number(desktop: Desktop) -> None:
    desktop.log_in(two_cards())
    before = desktop.shown
    desktop.start(off=["DisplayPort-2-3"])
    data = json.loads(desktop.state.read_text())
    card = data["monitors"].pop("DisplayPort-2-3")
    again = {**card, "name": "DisplayPort-1-3", "mode": None, "x": 0, "primary": False}
    data["monitors"]["DisplayPort-1-3"] = again
    desktop.state.write_text(json.dumps(data))
    assert desktop.stop() == []
    after = desktop.shown
    assert after["DisplayPort-1-3"] == {**before["DisplayPort-2-3"], "name": "DisplayPort-1-3"}
    assert after["HDMI-A-0"] == before["HDMI-A-0"]


def test_a_mode_that_is_gone_is_told_and_the_others_restored(desktop: Desktop) -> None:
    """Another monitor at the same connector, without an EDID."""
    server = two_cards()
    for monitor in server.monitors.values():
        monitor.edid = ""
    desktop.log_in(server)
    desktop.start(off=["DisplayPort-2-3"], timeout=0.3)
    desktop.change("DisplayPort-2-3", modes=[(640, 480, 60.0)])
    assert desktop.stop() == []
    assert desktop.lit == ["HDMI-A-0"] and desktop.shown["HDMI-A-0"]["x"] == 2560
    told = "DisplayPort-2-3 no longer has the mode 2560x1440 of 143.91 Hz, so it is left as it is"
    assert any(told in line for line in desktop.log.infos)


def test_what_gnome_refuses_once_is_asked_for_again(desktop: Desktop) -> None:
    """Hardware changed between the look at the screen and the call."""
    desktop.add_gpu(("HDMI-A-1", "cc"))
    left, right = Monitor("HDMI-1", MODES, 0, 0), Monitor("DP-1", MODES, 1, 2560, primary=True)
    desktop.log_in(Server.of(left, right), DESKTOP="GNOME", **WAYLAND)
    before = desktop.shown
    program = desktop.state.parent / "bin/busctl"
    stale = f'test -e {desktop.state}.1 || {{ touch {desktop.state}.1; sed -i \'s/"serial": 1/'
    stale += f'"serial": 2/\' {desktop.state}; }}\n'
    apply = f'case "$*" in *ApplyMonitorsConfig*) {stale.rstrip()} ;; esac\n'
    program.write_text(program.read_text().replace("exec", f"{apply}exec", 1))
    desktop.start()
    assert desktop.lit == ["DP-1"] and json.loads(desktop.state.read_text())["serial"] == 2
    assert any("Access denied: trying again" in line for line in desktop.log.infos)
    assert desktop.stop() == []
    assert desktop.shown == before


def refusing(desktop: Desktop, times: int) -> None:
    """Have sway refuse so many changes."""
    program, calls = desktop.state.parent / "bin/wlr-randr", desktop.state.parent / "calls"
    refuse = "{ echo failed to apply configuration >&2; exit 1; }"
    count = f"[ $# = 0 ] || {{ echo >>{calls}; [ $(wc -l <{calls}) -gt {times} ] || {refuse}; }}\n"
    program.write_text(program.read_text().replace("exec", f"{count}exec", 1))


def test_what_sway_refuses_is_asked_for_until_it_is_done(desktop: Desktop) -> None:
    """It does so for a while with the monitor of a card that has just come back."""
    desktop.add_gpu(("DP-2", ""))
    desktop.log_in(Server.of_two(), DESKTOP="sway", **WAYLAND)
    before = desktop.shown
    desktop.start(timeout=30)
    assert desktop.lit == ["DP-1"]
    refusing(desktop, 3)
    assert desktop.stop() == []
    assert desktop.shown == before
    told = [line for line in desktop.log.infos if "configuration: trying again" in line]
    assert len(told) == 1


def test_what_sway_refuses_for_good_fails_the_start(desktop: Desktop) -> None:
    desktop.add_gpu(("DP-2", ""))
    desktop.log_in(Server.of_two(), DESKTOP="sway", **WAYLAND)
    refusing(desktop, 1000)
    with pytest.raises(HookError, match="failed to apply configuration"):
        desktop.start(timeout=0.2)
    assert desktop.lit == ["DP-1", "DP-2"]


@pytest.mark.parametrize(
    "words",
    [
        "Call failed: The name org.gnome.Mutter.DisplayConfig was not provided by any .service",
        "Call failed: The name is not activatable",
        "Failed to connect to user scope bus via local transport: No such file or directory",
    ],
)
def test_gnome_has_gone_with_any_bus(desktop: Desktop, words: str) -> None:
    desktop.log_in(
        Server.of(Monitor("HDMI-1", MODES, 0), Monitor("DP-1", MODES, 1, 2560)),
        DESKTOP="GNOME",
        **WAYLAND,
    )
    desktop.start(off=["HDMI-1"])
    (desktop.state.parent / "bin/busctl").write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    assert desktop.stop() == []
    assert any("no display server answers: nothing to undo" in one for one in desktop.log.infos)


def test_an_output_that_came_meanwhile_is_left_alone(desktop: Desktop) -> None:
    server = two_cards()
    desktop.log_in(server)
    desktop.start(off=["DisplayPort-2-3"])
    data = json.loads(desktop.state.read_text())
    data["monitors"]["HDMI-A-1"] = asdict(Monitor("HDMI-A-1", MODES, 0, 9000, 9, crtc=3))
    desktop.state.write_text(json.dumps(data))
    assert desktop.stop() == []
    assert desktop.lit == ["HDMI-A-0", "DisplayPort-2-3", "HDMI-A-1"]
    assert desktop.shown["HDMI-A-1"]["x"] == 9000


def test_what_the_user_changed_meanwhile_stays(desktop: Desktop) -> None:
    desktop.log_in(two_cards())
    desktop.start(off=["DisplayPort-2-3"])
    data = json.loads(desktop.state.read_text())
    data["monitors"]["HDMI-A-0"]["rotate"] = "left"
    desktop.state.write_text(json.dumps(data))
    assert desktop.stop() == []
    assert desktop.lit == ["HDMI-A-0"]
    assert any("somebody else has set it" in line for line in desktop.log.warnings)


def test_an_output_of_another_card_that_the_user_lights_again_stays(desktop: Desktop) -> None:
    """No card that returns does that: it was off because vm.toml names it."""
    desktop.add_gpu(("DP-4", "bb" * 128))
    server = two_cards()
    third = Monitor("DVI-D-0", MODES, 1, 6000, 0, edid="dd" * 128, crtc=2)
    monitors = (*server.monitors.values(), third)
    desktop.log_in(Server.of(*monitors, providers=(RX_550, RX_6900)))
    desktop.start(off=["HDMI-A-0"])
    assert desktop.lit == ["DVI-D-0"]
    data = json.loads(desktop.state.read_text())
    data["monitors"]["HDMI-A-0"] |= {"mode": 1, "x": 5000}
    desktop.state.write_text(json.dumps(data))
    assert desktop.stop() == []
    assert desktop.shown["HDMI-A-0"]["x"] == 5000


def test_a_desktop_that_lights_the_returning_monitor_itself(desktop: Desktop) -> None:
    desktop.log_in(two_cards())
    before = desktop.shown
    desktop.start(off=["DisplayPort-2-3"])
    data = json.loads(desktop.state.read_text())
    data["monitors"]["DisplayPort-2-3"] |= {"mode": 1, "x": 2560, "primary": False}
    data["monitors"]["HDMI-A-0"]["mode"] = 0
    desktop.state.write_text(json.dumps(data))
    assert desktop.stop() == []
    assert desktop.shown == before


def test_a_display_server_that_has_gone_needs_no_undo(desktop: Desktop) -> None:
    desktop.log_in(two_cards())
    desktop.start(off=["DisplayPort-2-3"])
    desktop.state.unlink()
    assert desktop.stop() == []
    told = f"layout of {ME}'s :0: no display server answers: nothing to undo"
    assert any(told in line for line in desktop.log.infos)


def test_a_wayland_session_that_has_gone(desktop: Desktop) -> None:
    """kscreen-doctor 5.27 without a compositor; Xwayland's display is not to be asked instead."""
    desktop.log_in(two_cards(), **{**WAYLAND, "DISPLAY": ":1"}, DESKTOP="KDE")
    desktop.start(off=["DisplayPort-2-3"])
    program = desktop.state.parent / "bin/kscreen-doctor"
    program.write_text(
        '#!/bin/sh\ntest -z "$DISPLAY" -a "$QT_QPA_PLATFORM" = wayland || exit 1\n'
        "echo 'Could not load it.\n\nAvailable platform plugins are: xcb, wayland.' >&2\n"
        "kill -ABRT $$\n"
    )
    assert desktop.stop() == []
    assert any("no display server answers: nothing to undo" in one for one in desktop.log.infos)


def test_a_plugin_of_qts_that_is_not_there_is_no_missing_compositor(desktop: Desktop) -> None:
    desktop.log_in(two_cards(), **WAYLAND, DESKTOP="KDE")
    program = desktop.state.parent / "bin/kscreen-doctor"
    program.write_text(
        "#!/bin/sh\necho 'Available platform plugins are: xcb.' >&2\nkill -ABRT $$\n"
    )
    for name in ("wlr-randr", "busctl"):
        (desktop.state.parent / "bin" / name).write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(
        HookError,
        match=r"lacks a package that it needs for wayland; install "
        r"qt6-wayland",
    ):
        desktop.plan(off=["HDMI-A-0"])


def test_the_compositor_is_the_one_that_answers(desktop: Desktop) -> None:
    """LXQt has any of them, and may put its name into XDG_CURRENT_DESKTOP."""
    desktop.log_in(
        Server.of(Monitor("HDMI-1", MODES, 0), Monitor("DP-1", MODES, 1, 2560)),
        DESKTOP="LXQt:kwin_wayland",
        **WAYLAND,
    )
    for name in ("wlr-randr", "busctl"):
        text = "#!/bin/sh\necho no wlr-output-management-unstable-v1, not activatable >&2\nexit 1\n"
        (desktop.state.parent / "bin" / name).write_text(text)
    (step,) = desktop.plan(off=["HDMI-1"])
    assert isinstance(step.knob, DisplayLayout) and step.knob.back_end == "kscreen"
    domain = Domain("win11", UUID, pci=(PciFunction(GPU, True, "hostdev"),))
    wish: dict[str, str | int | float] = {"name": "DP-1", "scale": 1.3}
    told = list(notes(domain, Options(off=("HDMI-1",), outputs=(wish,)), desktop.host))
    assert (
        len(told) == 1
        and ("switch it on again with kscreen-doctor output.HDMI-1.enable") in told[0]
    )
    wish["scale"] = 1.003
    told = list(notes(domain, Options(off=("HDMI-1",), outputs=(wish,)), desktop.host))
    assert told[0] == "DP-1 does not support the scale 1.003: it gets 1"


def test_a_server_that_does_not_do_it_fails_the_start(desktop: Desktop) -> None:
    server = two_cards()
    server.monitors["HDMI-A-0"].stubborn = True
    desktop.log_in(server)
    before = desktop.shown
    with pytest.raises(HookError, match=r"rotate=left .*was asked for, but after 0.2 s"):
        desktop.start(outputs=({"name": "HDMI-A-0", "rate": 60, "rotation": "left"},), timeout=0.2)
    assert desktop.shown == before


@pytest.mark.parametrize(
    ("server", "connector", "boot", "words"),
    [
        (("Radeon @ pci:" + GPU, RX_550), ("DP-4", "bb" * 128), False, "is provider 0 of"),
        (("modesetting", "modesetting"), ("HDMI-A-1", "aa" * 128), False, "is provider 0 of"),
        ((), ("Virtual-1", ""), True, "is the boot display"),
        (("modesetting",), ("Virtual-1", ""), True, "is the boot display"),
    ],
)
def test_the_desktops_own_card_is_refused(
    desktop: Desktop, server: tuple[str, ...], connector: tuple[str, str], boot: bool, words: str
) -> None:
    desktop.add_gpu(connector, boot=boot)
    screen = two_cards()
    screen.providers = list(server)
    desktop.log_in(screen)
    with pytest.raises(HookError) as caught:
        desktop.plan()
    assert words in str(caught.value) and "the desktop would crash without it; make another" in str(
        caught.value
    )


@pytest.mark.parametrize(("back_end", "boots"), [("xrandr", True), ("wayland", False)])
def test_a_boot_display_that_the_desktop_does_not_run_on(
    desktop: Desktop, back_end: str, boots: bool
) -> None:
    desktop.add_gpu(("DP-4", "bb" * 128), boot=boots)
    desktop.log_in(two_cards(), **(WAYLAND if back_end == "wayland" else {}))
    desktop.plan()


@pytest.mark.parametrize(
    ("session", "words"),
    [
        ({"TYPE": "mir"}, "sessions of type mir are not supported; supported are X11, and on"),
        ({"DISPLAY": ""}, "no program of this session has DISPLAY in its environment"),
    ],
)
def test_sessions_that_cannot_be_reached(
    desktop: Desktop, session: dict[str, str], words: str
) -> None:
    desktop.add_gpu()
    desktop.log_in(two_cards(), **session)
    with pytest.raises(HookError) as caught:
        desktop.plan()
    assert words in str(caught.value)


def test_a_compositor_without_the_protocol_is_named(desktop: Desktop) -> None:
    for name in ("wlr-randr", "busctl", "kscreen-doctor"):
        text = "#!/bin/sh\necho no wlr-output-management-unstable-v1 here >&2\nexit 1\n"
        (desktop.state.parent / "bin" / name).write_text(text)
    desktop.add_gpu()
    desktop.log_in(two_cards(), **WAYLAND)
    with pytest.raises(HookError, match="its compositor is not supported; supported are X11"):
        desktop.plan()


def test_a_program_that_is_not_there_is_named_with_its_package(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = desktop.root / "only"
    programs.mkdir(parents=True)
    for name in ("env", "setpriv"):
        (programs / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setattr(commands, "SEARCH", str(programs))
    desktop.add_gpu()
    desktop.log_in(two_cards())
    with pytest.raises(HookError, match="xrandr: no such program; install x11-xserver-utils"):
        desktop.plan()


def test_a_captured_host_has_no_screen(tmp_path: Path) -> None:
    add_session(tmp_path, "2", ME, DISPLAY=":0")
    with pytest.raises(HookError, match="xrandr cannot be run for the host below"):
        list(plan(PREPARE, Domain("win11", UUID), Options(), Host(str(tmp_path))))


def test_nothing_to_do_is_no_step(desktop: Desktop) -> None:
    desktop.add_gpu()
    desktop.log_in(two_cards())
    assert desktop.plan() == []
    assert not list(plan(Event("win11", "started"), Domain("w", "u"), Options(), desktop.host))


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"nam": "DP-1"}, "unknown key 'nam'; there are: name, mode"),
        ({"mode": "1x1"}, "outputs: one of them needs a name"),
        (
            {"name": "DP-1", "rotation": "upside"},
            "DP-1 has a rotation that is not one of normal, left",
        ),
        ({"name": "DP-1", "reflection": "z"}, "not one of x, y, xy"),
        ({"name": "DP-1", "rate": "fast"}, "not a number"),
        ({"name": "DP-1", "position": "left"}, 'not like "1920,0"'),
    ],
)
def test_wishes_that_are_none(wish: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Options(outputs=(wish,))
    assert words in str(caught.value)
