"""How a program lets go of a graphics card: the rungs of a ladder. The lowest rung that works for
the program counts.

1. It closes the card when udev says that the card has gone, and opens it again when it is back.
2. It has to be configured, before it starts, to leave the card alone.
3. It keeps the card as long as it runs: its session has to end.
4. It is a service of the system, which can be stopped while the VM runs.

What the programs do is from their sources and documentation. Xorg, sway, labwc, KWin and mutter
were tried on two emulated cards, and none on a real card yet.
"""

import os
from collections.abc import Iterator

from vfio_hooks.host import Host, process
from vfio_hooks.host.accounts import account, user_name
from vfio_hooks.host.in_use import Holder, holders, unit_of
from vfio_hooks.host.units import is_display_manager
from vfio_hooks.quoting import quoted
from vfio_hooks.record import record


@record
class Compositor:
    """A program that draws a desktop. `closes` says whether it closes a card when udev says that
    the card has gone. `how` is the setting that makes it leave a card alone from its start on; it
    is a `variable` with the list of cards to use, or something else."""

    name: str
    closes: bool
    how: str
    variable: str = ""


_WLROOTS = "WLR_DRM_DEVICES"
_IGNORE = "udev's tag mutter-device-ignore"
COMPOSITORS = {
    "Xorg": Compositor("X11", True, 'Option "AutoAddGPU" "false"'),
    "X": Compositor("X11", True, 'Option "AutoAddGPU" "false"'),
    "kwin_wayland": Compositor("KDE", True, "", "KWIN_DRM_DEVICES"),
    "gnome-shell": Compositor("GNOME", False, _IGNORE),
    "mutter": Compositor("mutter", False, _IGNORE),
    "sway": Compositor("sway", True, "", _WLROOTS),
    "labwc": Compositor("labwc", True, "", _WLROOTS),
    "wayfire": Compositor("Wayfire", True, "", _WLROOTS),
    "river": Compositor("river", True, "", _WLROOTS),
    "Hyprland": Compositor("Hyprland", True, "", "AQ_DRM_DEVICES"),
    "niri": Compositor("niri", False, 'debug { ignore-drm-device "/dev/dri/..." }'),
}
"""By the name of the process, as the kernel has it."""
RULES = "/etc/udev/rules.d/72-vfio-hooks.rules"
"""Where `vfio-hooks desktop` has rules of udev for cards."""
XORG = "/etc/X11/xorg.conf.d/72-vfio-hooks.conf"
"""The same for an X server."""
VARIABLES = ".config/environment.d/72-vfio-hooks.conf"
"""The same for variables, below a user's home."""
MESA_ONLY = "__EGL_VENDOR_LIBRARY_FILENAMES"
"""What keeps libglvnd from loading nvidia's EGL into every program that draws."""
_LATER = "from the next login on"


@record
class Rung:
    """What works for one program that has a card open: the rung's number, and a clause. `is_told`
    says that the program is already configured to leave the card alone."""

    holder: Holder
    number: int
    text: str
    is_told: bool = False

    def advice(self, vm: str) -> str:
        """The clause, with the command that says more, for the VM that gets the card."""
        if self.number == 2 and not self.is_told:
            return f"{self.text}; vfio-hooks desktop {quoted(vm)} shows how"
        return self.text

    def __str__(self) -> str:
        return f"{self.holder}: {self.text}"


def rungs(host: Host, address: str) -> list[Rung]:
    """For each program that has a graphics card open, the rung on which it lets go of it."""
    found = [Rung(holder, *_rung(host, holder)) for holder in _once(holders(host, address))]
    return [
        Rung(one.holder, 2, f"it is configured to leave the card alone ({path}), {_LATER}", True)
        if (path := _written(host, address, one))
        else one
        for one in found
    ]


def setting_text(host: Host, path: str) -> str | None:
    """The text of a setting's file, or None if there is none. A home may have anything in its
    place, such as a FIFO, and a read of that would wait forever."""
    return host.maybe(path) if os.path.isfile(host.path(path)) else None


def _written(host: Host, address: str, rung: Rung) -> str:
    """The file that keeps a program from the card from its next start on, or ""."""
    if _IGNORE in rung.text:
        text = setting_text(host, RULES) or ""
        return RULES if f'"{address}", TAG+="mutter-device-ignore"' in text else ""
    holder = rung.holder
    is_on_nvidia = holder.name in COMPOSITORS and holder.file.startswith("/dev/nvidia")
    if not is_on_nvidia or _has_mesa_only(host, holder.pid):
        return ""
    if holder.name in ("X", "Xorg"):
        return XORG if setting_text(host, XORG) else ""
    uid = process.uid(host, holder.pid)
    user = None if uid is None else user_name(host, uid)
    path = f"{account(host, user).home}/{VARIABLES}" if user else ""
    return path if f"\n{MESA_ONLY}=" in (setting_text(host, path) or "") else ""


def _has_mesa_only(host: Host, pid: int) -> bool:
    """Whether a process was started without nvidia's EGL."""
    return MESA_ONLY in process.environ(host, pid)


def _once(found: list[Holder]) -> Iterator[Holder]:
    """One node of each program; nvidia's nodes first, because those are kept. Seat managers are
    left out: they close a card when their compositor does, and must not be stopped."""
    best: dict[int, Holder] = {}
    for holder in found:
        if holder.is_seat_manager:
            continue
        if holder.pid not in best or holder.file.startswith("/dev/nvidia"):
            best[holder.pid] = holder
    yield from best.values()


def _rung(host: Host, holder: Holder) -> tuple[int, str]:
    if holder.file.startswith("/dev/vfio/"):
        return 3, "a VM has the card, and gives it back when it ends"
    compositor = COMPOSITORS.get(holder.name)
    unit = unit_of(host, holder.pid)
    if compositor is None and unit is not None and is_display_manager(host, unit):
        return 3, f"it belongs to the display manager, {unit}: [session] ends it until the VM ends"
    if compositor is None and unit is not None:
        return 4, f'it is a service: [[service]] with unit = "{unit}" stops it while the VM runs'
    if compositor is None:
        return 3, "close it before the VM starts; [session] ends it with its session"
    if holder.file.startswith("/dev/nvidia"):
        session = '[session] with restart = "without-card"'
        if _has_mesa_only(host, holder.pid):
            return 3, f"it uses nvidia's driver in spite of {MESA_ONLY}: {session} ends it"
        return 3, (
            f"nvidia's driver lets no running program go: {session} ends it; or, on a desktop "
            "whose own card is not nvidia's, vfio-hooks desktop configures it to leave the card "
            f"alone, {_LATER}"
        )
    if compositor.closes:
        return 1, "it closes the card when [display] makes udev announce that the card has gone"
    text = f"it must be configured before login to leave the card alone: {compositor.how}"
    if compositor.how == _IGNORE:
        text += "; without that it may keep the card, or use it again only after a new login"
    return 2, text
