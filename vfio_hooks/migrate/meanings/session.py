"""Commands about the desktop on the card: its display manager, programs, consoles, framebuffer."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_MANAGERS = (
    r"(?:display-manager|gdm3?|sddm|lightdm|lxdm|xdm|mdm|kdm|slim|ly(?:@\w+)?|greetd|cosmic-greeter|"
    r"nodm|plasmalogin|lemurs|emptty)"
)
_DESKTOP = (
    r"(?:gdm-\S+|Xorg|X|Xwayland|gnome-shell|gnome-session\S*|plasma\S*|kwin\S*|startplasma\S*|"
    r"Hyprland|hyprland|sway|niri|river|labwc|wayfire|weston|i3|openbox|fluxbox|awesome|bspwm|dwm|"
    r"qtile|xmonad|herbstluftwm|xfce4-session|lxqt-session|mate-session|cinnamon\S*|budgie-\S+|"
    r"cosmic-(?:comp|session)|gamescope-session\S*|"
    r"org_kde_powerdevil|kded\d?|latte-dock|waybar|polybar|picom|conky|plank)"
)
_SIGNAL = r"(?:-(?:9|15|1|KILL|TERM|HUP|SIGKILL|SIGTERM)|-s \w+|--signal \w+)"
_SOUND = r"(?:pipewire\S*|wireplumber|pulseaudio)"

MEANINGS = (
    Meaning(
        rf"^systemctl\b.*\b(?:re)?start\b.*\b{_MANAGERS}(?:\.service)?$|"
        rf"^(?:service|rc-service) {_MANAGERS} (?:re)?start$|^(?:sv|rsm|dinitctl) \S*(?:up|start) "
        rf"{_MANAGERS}$|^{_MANAGERS} (?:re)?start$",
        "table",
        "session",
        "the display manager is stopped, waited for, and started again",
        ("restart=without-card",),
    ),
    Meaning(
        rf"^(?:systemctl|service|rc-service|sv|rsm|dinitctl|s6-rc)\b.*\b{_MANAGERS}(?:\.service)?\b|"
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
        r"^(?:qdbus\d?\b.* logout\b|gnome-session-quit|\S+-session-logout|swaymsg exit|i3-msg exit|"
        r"bspc quit|hyprctl dispatch exit|openbox --exit)|"
        r"^systemctl\b.*--user\b.*(?:plasma|-session\.target|gnome|pipewire|wireplumber|pulse|"
        rf"\b(?:xorg\S*|{_DESKTOP})(?:\.service|\.target)?(?:\s|$))",
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
        r"^loginctl\b.*(?:terminate-user|terminate-session|kill-user|kill-session|terminate-seat)|"
        r"^systemctl\b.*\b(?:kill|stop)\b.*\s(?:user@\S+|user-\S+\.slice|session-\S+\.scope)$|"
        r"^fuser\b.* -\w*k.* /dev/(?:nvidia|dri|snd|fb)|"
        r"^(?:kill|killall)\b.* \?(?:/dev/(?:nvidia|dri|snd|fb)|nvidia|amdgpu|radeon|nouveau|i915|"
        r"xe\b)",
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
