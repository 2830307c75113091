"""The programs that show a desktop, each with three outputs that need no hardware."""

from __future__ import annotations

from dataclasses import dataclass, field

_SOCKET = "/run/user/1000/bus"
BUS = f"unix:path={_SOCKET}"
DAEMON = f"dbus-daemon --session --fork --address={BUS}"
"""Starts the bus of Debian's users."""
_JOURNAL = "/run/systemd/journal/socket"
_LISTEN = "systemd-socket-activate"
BROKER = (
    f"mkdir -p {_JOURNAL.rpartition('/')[0]} && {{ "
    f"{_LISTEN} --datagram --listen={_JOURNAL} sleep infinity & "
    f"{_LISTEN} --setenv=XDG_RUNTIME_DIR --setenv=DBUS_SESSION_BUS_ADDRESS --listen={_SOCKET} "
    "dbus-broker-launch --scope user & } && "
    f"until test -S {_JOURNAL} -a -S {_SOCKET}; do sleep 0.1; done"
)
"""Starts the bus of Fedora's and Arch's users. It ends if it does not find the socket of a journal,
or its own."""
_HEADLESS = {
    "WLR_BACKENDS": "headless",
    "WLR_RENDERER": "pixman",
    "WLR_HEADLESS_OUTPUTS": "3",
    "WLR_LIBINPUT_NO_DEVICES": "1",
}
XORG_CONF = """\
Section "Device"
  Identifier "dummy"
  Driver "dummy"
  VideoRam 131072
EndSection
Section "Screen"
  Identifier "screen"
  Device "dummy"
  SubSection "Display"
    Virtual 8000 4000
  EndSubSection
EndSection
Section "ServerFlags"
  Option "AutoAddDevices" "false"
  Option "AutoAddGPU" "false"
EndSection
"""


@dataclass(frozen=True)
class Program:
    """How one is installed and started. `server` is a shell command line; `environment` is the
    server's, `client` that of the programs that talk to it. `scales` are some that are tried on
    its outputs, `turns` says whether these can be rotated, and `prepare` are commands that make all
    of them usable."""

    name: str
    back_end: str
    packages: tuple[str, ...]
    server: str
    environment: dict[str, str]
    client: dict[str, str]
    scales: tuple[float, ...] = (1, 1.2, 1.25, 1.3333, 1.5, 1.7, 2)
    turns: bool = True
    prepare: tuple[tuple[str, ...], ...] = field(default=())


PROGRAMS = (
    Program(
        "mutter",
        "mutter",
        ("mutter", "mutter-common-bin", "dbus-daemon", "dbus-broker", "systemd"),
        f"{DAEMON} && exec mutter --headless --wayland --no-x11 --virtual-monitor 2560x1440@60 "
        "--virtual-monitor 1280x800@60 --virtual-monitor 1280x800@60",
        {"DBUS_SESSION_BUS_ADDRESS": BUS},
        {"DBUS_SESSION_BUS_ADDRESS": BUS},
    ),
    Program(
        "kwin",
        "kscreen",
        ("kwin-wayland", "libkscreen-bin", "qt6-wayland"),
        "exec kwin_wayland --virtual --no-lockscreen --socket wayland-7 --output-count 3 "
        "--width 1280 --height 800",
        {"KWIN_COMPOSE": "Q", "QT_QPA_PLATFORM": "offscreen"},
        {"WAYLAND_DISPLAY": "wayland-7", "QT_QPA_PLATFORM": "wayland"},
    ),
    Program(
        "sway",
        "wlroots",
        ("sway", "wlr-randr"),
        "exec sway -c /dev/null",
        _HEADLESS,
        {"WAYLAND_DISPLAY": "wayland-1"},
    ),
    Program(
        "labwc",
        "wlroots",
        ("labwc", "wlr-randr"),
        "exec labwc",
        _HEADLESS,
        {"WAYLAND_DISPLAY": "wayland-0"},
    ),
    Program(
        "xorg",
        "xrandr",
        ("xserver-xorg-core", "xserver-xorg-video-dummy", "x11-xserver-utils"),
        "mkdir /tmp/.X11-unix && exec /usr/lib/xorg/Xorg :7 -config /etc/X11/outputs.conf "
        "-noreset -nolisten tcp -logfile /tmp/xorg.log",
        {},
        {"DISPLAY": ":7"},
        # The dummy driver has neither rotations nor transformations.
        scales=(1,),
        turns=False,
        prepare=tuple(
            ("xrandr", "--addmode", output, mode)
            for output in ("DUMMY1", "DUMMY2")
            for mode in ("1024x768", "800x600")
        ),
    ),
)
