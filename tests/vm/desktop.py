"""A user's desktop in the guest: a session that logind knows, with Xorg or sway in it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from tests.vm.guest import Guest
from tests.vm.release import USER

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
_HEADLESS = {
    "WLR_BACKENDS": "headless",
    "WLR_RENDERER": "pixman",
    "WLR_HEADLESS_OUTPUTS": "3",
    "WLR_LIBINPUT_NO_DEVICES": "1",
}
# Without libinput there is no pointer, whose place in the picture might be another one later.
_ON_CARDS = {"WLR_BACKENDS": "drm", "WLR_RENDERER": "pixman", "LIBSEAT_BACKEND": "logind"}
# chvt's two calls, VT_ACTIVATE and VT_WAITACTIVE of linux/vt.h: the guests have no kbd.
_SWITCH = (
    'python3 -c \'import fcntl, sys; console = open("/dev/tty0");'
    " [fcntl.ioctl(console, call, int(sys.argv[1])) for call in (0x5606, 0x5607)]'"
)
_TERMINAL, _CONSOLE = 7, 1


@dataclass(frozen=True)
class Desktop:
    """A user who looks at a screen, as the display manager and the desktop would have it."""

    guest: Guest

    def start_x11(self, display: str = ":77") -> None:
        """Xorg as a display manager starts it: root's process, and a cookie for the user."""
        self.guest.put(f"{_FOLDER}/xorg.conf", _XORG)
        self._session("x11", {"DISPLAY": display, "XAUTHORITY": _COOKIE}, "sleep infinity")
        self.guest.run(
            f"cd {_FOLDER} && cookie=$(mcookie) && touch root && xauth -q -f root add {display} . "
            f"$cookie && cp root {_COOKIE} && chown {USER}: {_COOKIE}"
        )
        self.guest.start_unit(
            "test-xorg",
            f"Xorg {display} -config {_FOLDER}/xorg.conf -auth {_FOLDER}/root -noreset "
            "-nolisten tcp -sharevts -novtswitch",
        )
        self.guest.wait(f"test -S /tmp/.X11-unix/X{display[1:]}")
        self.guest.wait(self.inside("xrandr", DISPLAY=display, XAUTHORITY=_COOKIE))

    def start_sway(self) -> None:
        """sway with three outputs of no hardware."""
        self._sway("", _HEADLESS)

    def start_sway_on_cards(self, configuration: str, variables: dict[str, str]) -> None:
        """sway on the host's graphics cards, which logind opens for it."""
        # logind lets only the session on the screen have them.
        self.guest.run(f"{_SWITCH} {_TERMINAL}")
        self._sway(configuration, {**_ON_CARDS, **variables})

    def _sway(self, configuration: str, variables: dict[str, str]) -> None:
        lines = f"xwayland disable\n{configuration}exec sleep infinity\n"
        self.guest.put(f"{_FOLDER}/sway", lines)
        self._session("wayland", variables, f"sway -c {_FOLDER}/sway")
        self.guest.wait(f"test -S {RUNTIME}/wayland-1")
        self.guest.wait(self.inside("wlr-randr", WAYLAND_DISPLAY="wayland-1"))

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
