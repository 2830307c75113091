"""The desktop that has the card: its display manager, programs, consoles and framebuffer."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_MANAGERS = (
    r"(?:display-manager|gdm3?|sddm|lightdm|lxdm|xdm|slim|ly(?:@\w+)?|greetd|cosmic-greeter|nodm|"
    r"plasmalogin)"
)
_DESKTOP = (
    r"(?:gdm-\S+|Xorg|X|Xwayland|gnome-shell|gnome-session\S*|plasma\S*|kwin\S*|startplasma\S*|"
    r"Hyprland|hyprland|sway|niri|river|labwc|i3|openbox|awesome|xfce4-session|cinnamon\S*)"
)
_SIGNAL = r"(?:-(?:9|15|1|KILL|TERM|HUP|SIGKILL|SIGTERM)|-s \w+|--signal \w+)"
_SOUND = r"(?:pipewire\S*|wireplumber|pulseaudio)"

MEANINGS = (
    Meaning(
        rf"^(?:systemctl|service|rc-service|sv|dinitctl|s6-rc)\b.*\b{_MANAGERS}(?:\.service)?\b|"
        # /etc/init.d/xdm
        rf"^{_MANAGERS} (?:stop|start|restart)$",
        "table",
        "session",
        "the display manager is stopped, waited for, and started again",
    ),
    Meaning(
        r"^systemctl\b.*\bisolate\b",
        "table",
        "session",
        "only the display manager is stopped, and no other service",
    ),
    Meaning(
        r"^systemctl\b.*--user\b.*(?:plasma|-session\.target|gnome|pipewire|wireplumber|pulse)",
        "table",
        "session",
        "what belongs to the session ends with it",
    ),
    Meaning(
        rf"^(?:killall|pkill|kill)\b.*\b(?:{_DESKTOP}|{_SOUND})(?:\s|$)",
        "table",
        "session",
        "programs of the session end with it; those that still have the card open are ended",
        ("leftovers=end",),
    ),
    Meaning(
        # All programs of a user, or all that have the card or the sound open.
        rf"^(?:killall|pkill)(?: {_SIGNAL})* -u \S+(?: {_SIGNAL})*$|"
        r"^loginctl\b.*(?:terminate-user|terminate-session|kill-user|kill-session)|"
        r"^fuser\b.* -\w*k.* /dev/(?:nvidia|dri|snd|fb)|"
        r"^kill\b.* \?/dev/(?:nvidia|dri|snd|fb)",
        "table",
        "session",
        "programs of the session end with it; those that still have the card open are ended",
        ("leftovers=end",),
    ),
    Meaning(
        r"^write \S* ?> ?\S*/vtcon\S*/bind",
        "table",
        "session",
        "the console on a framebuffer is unbound, and bound again",
    ),
    Meaning(
        r"^write .*> ?\S*/(?:efi|vesa|simple)-framebuffer\S*/(?:un)?bind",
        "table",
        "session",
        "the firmware's framebuffer is removed from the card",
    ),
    Meaning(
        r"^systemctl\b.*\bnvidia-(?:persistenced|powerd)\b",
        "needless",
        "session",
        "nvidia's services are stopped before its modules are unloaded, and started again "
        "afterwards",
    ),
)
