"""A user's desktop in the guest: a session that logind knows, with Xorg or a compositor in it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.vm.guest import Guest
from tests.vm.release import USER
from vfio_hooks.layouts import load
from vfio_hooks.layouts.layout import Layout

RUNTIME = "/run/user/1000"
_FOLDER = "/tmp/desktop"
_COOKIE = f"{RUNTIME}/Xauthority"
_LOGGED_OUT = f'test -z "$(ls /run/systemd/sessions)" -a ! -e {RUNTIME}'
# Three outputs without any hardware; dummy's later ones are there once they have a mode.
_XORG = """\
Section "Device"
  Identifier "dummy"
  Driver "dummy"
  VideoRam 65536
EndSection
Section "Screen"
  Identifier "screen"
  Device "dummy"
  SubSection "Display"
    Virtual 5000 3000
  EndSubSection
EndSection
Section "ServerFlags"
  Option "AutoAddDevices" "false"
  Option "AutoAddGPU" "false"
EndSection
"""
# X uses Mesa's llvmpipe, and so bochs-drm's cards side by side, only if a second one is configured.
_XORG_ON_CARDS = """\
Section "Device"
  Identifier "first"
  Driver "modesetting"
  BusID "PCI:1:0:0"
EndSection
Section "Device"
  Identifier "second"
  Driver "modesetting"
  BusID "PCI:4:0:0"
EndSection
Section "Screen"
  Identifier "screen"
  Device "first"
  GPUDevice "second"
EndSection
Section "ServerFlags"
  Option "AutoAddDevices" "false"
EndSection
"""
_HEADLESS = {
    "WLR_BACKENDS": "headless",
    "WLR_RENDERER": "pixman",
    "WLR_HEADLESS_OUTPUTS": "3",
    "WLR_LIBINPUT_NO_DEVICES": "1",
}
# chvt's two calls, VT_ACTIVATE and VT_WAITACTIVE of linux/vt.h: the guests have no kbd.
_SWITCH = (
    'python3 -c \'import fcntl, sys; console = open("/dev/tty0");'
    " [fcntl.ioctl(console, call, int(sys.argv[1])) for call in (0x5606, 0x5607)]'"
)
_TERMINAL, _CONSOLE = 7, 1
# Without libinput there is no pointer, whose place in the picture might be another one later.
_WLROOTS = {"WLR_BACKENDS": "drm", "WLR_RENDERER": "pixman", "LIBSEAT_BACKEND": "logind"}


@dataclass(frozen=True)
class Compositor:
    """One for the host's graphics cards, or an X server. `command` starts it, and `{picture}` in it
    a program that paints the monitors; `socket` is where its clients find it, and `back_end` what
    tells its layout."""

    name: str
    back_end: str
    command: str
    socket: str
    environment: dict[str, str]


COMPOSITORS = (
    Compositor("sway", "wlroots", f"sway -c {_FOLDER}/sway", "wayland-1", _WLROOTS),
    Compositor("labwc", "wlroots", "labwc -s {picture}", "wayland-0", _WLROOTS),
    Compositor(
        "kwin_wayland",
        "kscreen",
        "kwin_wayland --drm --no-lockscreen --socket wayland-1 {picture}",
        "wayland-1",
        {"KWIN_COMPOSE": "Q"},
    ),
    # It shows a colour of its own on each monitor.
    Compositor(
        "mutter", "mutter", "mutter --wayland --no-x11 --wayland-display=wayland-1", "wayland-1", {}
    ),
    Compositor("Xorg", "xrandr", f"Xorg :77 vt{_TERMINAL}", ":77", {}),
)
"""By the name of the process."""


@dataclass(frozen=True)
class Desktop:
    """A user who looks at a screen, as the display manager and the desktop would have it."""

    guest: Guest

    def start_x11(self, display: str = ":77") -> None:
        """Xorg without hardware."""
        self._start_x11(display, _XORG, f"Xorg {display} -sharevts -novtswitch")

    def _start_x11(self, display: str, config: str, command: str) -> None:
        """Xorg as a display manager starts it: root's process, and a cookie for the user."""
        self.guest.put(f"{_FOLDER}/xorg.conf", config)
        self._session("x11", {"DISPLAY": display, "XAUTHORITY": _COOKIE}, "sleep infinity")
        self.guest.run(
            f"cd {_FOLDER} && cookie=$(mcookie) && touch root && xauth -q -f root add {display} . "
            f"$cookie && cp root {_COOKIE} && chown {USER}: {_COOKIE}"
        )
        self.guest.start_unit(
            "test-xorg",
            f"{command} -config {_FOLDER}/xorg.conf -auth {_FOLDER}/root -noreset -nolisten tcp",
        )
        self.guest.wait(f"test -S /tmp/.X11-unix/X{display[1:]}")
        self.guest.wait(self.inside("xrandr", DISPLAY=display, XAUTHORITY=_COOKIE))

    def start_sway(self) -> None:
        """sway with three outputs of no hardware."""
        self.guest.put(f"{_FOLDER}/sway", "xwayland disable\nexec sleep infinity\n")
        self._session("wayland", _HEADLESS, f"sway -c {_FOLDER}/sway")
        self.guest.wait(f"test -S {RUNTIME}/wayland-1")
        self.guest.wait(self.inside("wlr-randr", WAYLAND_DISPLAY="wayland-1"))

    def start_on_cards(
        self, compositor: Compositor, picture: str, variables: dict[str, str]
    ) -> None:
        """A compositor on the host's graphics cards, which logind opens for it, and a command that
        paints them."""
        # logind lets only the session on the screen have them.
        self.guest.run(f"{_SWITCH} {_TERMINAL}")
        if compositor.back_end == "xrandr":
            self._start_x11(compositor.socket, _XORG_ON_CARDS, compositor.command)
            self.x(picture)
            return
        self.guest.put(f"{_FOLDER}/sway", f"xwayland disable\nexec {picture}\n")
        command = compositor.command.replace("{picture}", shlex.quote(picture))
        self._session("wayland", {**compositor.environment, **variables}, command)
        self.guest.wait(self.query(compositor))

    def query(self, compositor: Compositor) -> str:
        """The command that shows a compositor's layout."""
        back_end = load(compositor.back_end)
        words = shlex.join([back_end.PROGRAM, *back_end.QUERY])
        if compositor.back_end == "xrandr":
            return self.inside(words, DISPLAY=compositor.socket, XAUTHORITY=_COOKIE)
        return self.inside(
            words,
            WAYLAND_DISPLAY=compositor.socket,
            DBUS_SESSION_BUS_ADDRESS=f"unix:path={RUNTIME}/bus",
            QT_QPA_PLATFORM="wayland",
        )

    def layout(self, compositor: Compositor) -> Layout:
        """Where each monitor's picture is."""
        return load(compositor.back_end).parse(self.guest.run(self.query(compositor)).stdout).layout

    def log_in(self, kind: str) -> None:
        """A session of one of logind's classes ("user-light"), with nothing to be seen in it."""
        self._session("wayland", {"XDG_SESSION_CLASS": kind}, "sleep infinity")
        self.guest.wait("! grep -qx STATE=opening /run/systemd/sessions/*[0-9]")

    def stop(self) -> None:
        """Log the user out, and wait until logind has forgotten it all."""
        self.guest.run(
            f"systemctl stop test-xorg.service test-session.service; loginctl kill-user {USER}; "
            f"rm -rf {_FOLDER}",
            check=False,
        )
        self.guest.wait(_LOGGED_OUT)

    def leave_screen(self) -> None:
        """Show the text console again; the desktop has ended."""
        self.guest.run(f"{_SWITCH} {_CONSOLE}")

    def inside(self, command: str, **variables: str) -> str:
        """A shell command line as the user runs it on the desktop."""
        settings = {"XDG_RUNTIME_DIR": RUNTIME, **variables}
        words = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
        return f"runuser -u {USER} -- env {words} {command}"

    def x(self, command: str) -> str:
        """What a command prints on the X11 desktop."""
        line = self.inside(command, DISPLAY=":77", XAUTHORITY=_COOKIE)
        return self.guest.run(line).stdout

    def wayland(self, command: str) -> str:
        """What a command prints on the Wayland desktop."""
        return self.guest.run(self.inside(command, WAYLAND_DISPLAY="wayland-1")).stdout

    def _session(self, kind: str, variables: dict[str, str], command: str) -> None:
        """A program as the leader of a session on seat0, which PAM tells logind of."""
        seat = {"XDG_SEAT": "seat0", "XDG_VTNR": str(_TERMINAL)}
        settings = {"XDG_SESSION_TYPE": kind, **seat, **variables}
        words = " ".join(f"-E {name}={shlex.quote(value)}" for name, value in settings.items())
        self.guest.wait(_LOGGED_OUT)  # in whatever test he was there
        self.guest.start_unit(
            "test-session", f"{words} {command}", f"-p PAMName=login -p User={USER}"
        )
        # logind writes the session down first, and mounts the user's folder then.
        self.guest.wait(
            f"grep -qx TYPE={kind} /run/systemd/sessions/*[0-9] && mountpoint -q {RUNTIME}"
        )
