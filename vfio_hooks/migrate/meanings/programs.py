"""Commands about the screen, sleep, services and programs, and any other value."""

from vfio_hooks.migrate.meanings.meaning import Meaning

_HELPERS = (
    r"(?:looking-glass(?:-client)?|scream\S*|barrier\S*|synergy\S*|input-leap\S*|deskflow\S*|evsieve|"
    r"netevent|xfreerdp\d?|remmina)"
)

MEANINGS = (
    Meaning(
        r"^(?:systemctl|service|rc-service)\b.*\b(?:libvirtd|virtqemud)\b",
        "mistake",
        "",
        "libvirt waits for its hook, so a hook must not stop or restart it",
    ),
    Meaning(
        r"^write (?:remove|add|change)\b.*> ?\S*/drm/\S+/uevent$|"
        r"^udevadm trigger\b.*--action[= ]remove\b.*(?:/dev/dri/|/drm/|\bdrm\b)",
        "table",
        "display",
        "the desktop is told that the card goes away, and closes it",
    ),
    Meaning(
        r"^(?:xrandr|wlr-randr|kscreen-doctor|gnome-randr|gdctl|hyprctl)\b.*"
        r"(?:--output|output|--off|monitor|dpms)|^swaymsg\b.* output ",
        "table",
        "display",
        "monitors are switched while the VM runs; the whole layout comes back",
    ),
    Meaning(
        r"^(?:systemctl|service|rc-service)\b.*(?:nosleep|inhibit)|^(?:systemd|elogind)-inhibit\b|"
        r"^xset\b.*(?:[+-]dpms|s off|s on|s noblank|s default)|"
        r"^systemctl\b.*\b(?:un)?mask\b.*\b(?:sleep|suspend|hibernate)",
        "table",
        "inhibit",
        "the host does not sleep while the VM runs",
    ),
    Meaning(
        rf"^(?P<command>(?:\S*/)?{_HELPERS}\b.*)",
        "table",
        "process",
        "it runs as the user, with the session's display, and ends with the VM",
        ("command",),
    ),
    Meaning(
        rf"^(?:killall|pkill|kill)\b.*\b{_HELPERS}",
        "needless",
        "process",
        "it ends with the VM",
    ),
    Meaning(
        r"^systemctl\b(?!.*--user)(?:\s-\S+)*\s(?P<action>stop|start|restart)\s(?:-\S+\s)*"
        r"(?P<unit>[\w@.:\\-]+)(?:\s|$)",
        "table",
        "service",
        "the unit is stopped or started, and restored afterwards",
        ("unit", "action"),
    ),
    Meaning(
        r"^(?:service|rc-service)\s(?P<unit>[\w.-]+)\s(?P<action>stop|start|restart)",
        "table",
        "service",
        "the unit is stopped or started, and restored afterwards",
        ("unit", "action"),
    ),
    Meaning(
        r"^vfio-isolate\b.*\brestore\b",
        "needless",
        "",
        "everything is undone automatically",
    ),
    Meaning(
        r"^sleep\b",
        "mistake",
        "",
        "it waits too long or not long enough; vfio-hooks looks at what it waits for, with a "
        "time limit",
    ),
    Meaning(
        r"^write (?P<value>[^>]*?) ?> ?(?P<path>/(?:sys|proc/sys)/\S+)$",
        "table",
        "write",
        "sets any other value below /sys and /proc/sys, and restores it",
        ("path", "value"),
    ),
    Meaning(
        r"^sysctl\b.*\s(?P<path>[a-z][\w./]+)=(?P<value>\S+)",
        "table",
        "write",
        "sets any other value below /sys and /proc/sys, and restores it",
        ("path", "value"),
    ),
)
