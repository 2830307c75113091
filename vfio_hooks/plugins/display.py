"""The monitors of a user's desktop: those on the passed graphics card are off while the VM runs.

An empty table finds the session that is on the screen, and the outputs of the passed card. It
switches these off before the card is taken. After the VM it restores the whole layout: modes,
rates, positions, rotation, scale and the primary output. The commands run as the session's user.
They are xrandr for X11, kscreen-doctor for KDE on Wayland, D-Bus calls for GNOME, and wlr-randr for
sway and similar compositors. A locked session works as well.

A desktop keeps every card open that it has found, with a monitor or without. How it lets go of a
card differs, and `vfio-hooks plan` shows the rung of this ladder for each program that has the card
open:

    1. udev is made to announce that the card has gone: the desktop closes it, and uses it again
       after the VM.
    2. The desktop is configured, before login, to leave the card alone: `vfio-hooks desktop VM`
       shows how, and writes that with --write.
    3. The session ends: [session], with restart = "without-card" for a desktop on another card.
    4. A service of the system has it: [[service]] stops that.

    desktop    rung  setting of rung 2                   layouts tried on    two cards
    X11        1     AutoAddGPU "false" in xorg.conf.d   Xorg 21.1           Xorg 21.1
    KDE        1     KWIN_DRM_DEVICES                    KWin 6.3, 6.7       KWin 6.7
    GNOME      2     udev's tag mutter-device-ignore     mutter 48, 50       mutter 50
    sway       1     WLR_DRM_DEVICES                     sway 1.10, 1.12     sway 1.12
    labwc      1     WLR_DRM_DEVICES                     labwc 0.8, 0.20     labwc 0.20
    Hyprland   1     AQ_DRM_DEVICES                      -                   -
    niri       2     debug { ignore-drm-device "..." }   -                   -
    nvidia's   3     __EGL_VENDOR_LIBRARY_FILENAMES      -                   -

Layouts were tried with these versions, but without hardware. Those in the last column were also
tried on two emulated cards with a monitor on each, of which a VM got one and gave it back. Xorg,
sway, labwc and KWin went on as the same process, with the layout that they had. With the setting of
rung 2, sway, labwc, KWin and mutter never opened the card. mutter without its setting gave up an
emulated card as well, but used it again only after a new login: it takes a card that comes back for
the one that it has lost. With a real driver it may keep the card, and the VM does not start.
Hyprland 0.56, started there by hand, kept the second card open when udev announced that it had
gone. With AQ_DRM_DEVICES it left the card alone, but opened it when it came back after a VM. These
cards cannot render, so it may do better on real ones. What is said of the other programs comes from
their sources and documentation. No desktop was tried on a real card yet. niri's setting is not
written.

sway and labwc take variables from the program that starts them. Variables below
~/.config/environment.d are seen only by programs that systemd's user manager starts, such as KWin.

KWin remembers permanently, in ~/.config/kwinoutputconfig.json, that a monitor was off. If the host
crashes while the VM runs, the monitor stays dark afterwards: `kscreen-doctor output.DP-1.enable`
switches it on again.
"""

from collections.abc import Iterator

from vfio_hooks.domain import Domain
from vfio_hooks.errors import CommandFailed, HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.desktops import rungs
from vfio_hooks.host.drm import connectors
from vfio_hooks.host.pci import passed_displays
from vfio_hooks.host.pci_traits import traits
from vfio_hooks.host.sessions import Session, choose, environment
from vfio_hooks.host.udev import announced_cards
from vfio_hooks.knobs.announced import WITHDRAWN, Announced
from vfio_hooks.knobs.display_layout import DisplayLayout
from vfio_hooks.layouts import SUPPORTED, back_ends_for
from vfio_hooks.layouts.arrange import arrange, check_wish
from vfio_hooks.layouts.cards import connectors_elsewhere, is_on_first_card, outputs_on
from vfio_hooks.layouts.layout import Layout, Screen
from vfio_hooks.layouts.xrandr import Provider, providers
from vfio_hooks.record import record, replace
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

_WLROOTS = "wlr-output-management"
"""The protocol that wlr-randr reports as missing if the compositor does not have it."""
_NEEDED = (
    "DISPLAY",
    "XAUTHORITY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    # Qt, and so kscreen-doctor, looks at these to choose between Wayland and X11.
    "XDG_CURRENT_DESKTOP",
    "XDG_SESSION_TYPE",
    "QT_QPA_PLATFORM",
)
_ELSEWHERE = (
    "make another card the first one, in the firmware or by its slot; or use [session], which "
    "ends the desktop while the VM runs"
)


@record
class Options:
    user: str | None = None
    """Whose session is meant, if several users have one on a screen."""
    seat: str | None = None
    """Which seat's session is meant, if several seats have one."""
    off: tuple[str, ...] = ()
    """Outputs to switch off in addition to those of the passed card. On X11, if identical monitors
    are connected to several outputs, it also says which of these outputs belong to the passed card.
    This is not needed where X uses its driver modesetting for all cards."""
    primary: str | None = None
    """The output that becomes the primary one. If it is not set and the primary output is switched
    off, the leftmost output that stays on becomes the primary one. Compositors such as sway have no
    primary output, and the key is an error there."""
    outputs: tuple[dict[str, str | int | float], ...] = ()
    """Other outputs to change, one table for each: { name = "HDMI-1", mode = "1920x1080", rate =
    60, right-of = "DP-1" }. A table can have a position ("1920,0") or one of right-of, left-of,
    above, below and same-as; a rotation (normal, left, inverted, right), a reflection (x, y, xy),
    and a scale, which is rounded to the nearest that the output supports."""
    release: bool = True
    """Whether the desktop is told that the passed card has gone, so that it closes the card."""
    timeout: float = 15.0
    """How many seconds the display server may take to make the change. After the VM, the card's
    outputs have as long to come back."""

    def __post_init__(self) -> None:
        for wish in self.outputs:
            try:
                check_wish(wish)
            except ValueError as error:
                raise ValueError(f"outputs: {wish.get('name', 'one of them')} {error}") from None


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    change = _change(domain, options, host)
    if change.layout is not None:
        # If a card's outputs are not known, `off` names them.
        darkened = tuple(sorted(change.screen.layout.lit & (change.on_cards or set(options.off))))
        knob = replace(change.knob, darkened=darkened)
        yield Step("display", knob, Override(str(change.layout)))
    for card in change.cards if options.release else ():
        yield Step("display", Announced(card), Override(WITHDRAWN))


def notes(domain: Domain, options: Options, host: Host) -> Iterator[str]:
    """What a plan says in addition to its steps: first, on which rung of the ladder each program
    that has a passed card open lets go of it."""
    for card in passed_displays(host, domain):
        for rung in rungs(host, card.address):
            yield f"{rung.holder}: {rung.advice(domain.name)}"
    try:
        change = _change(domain, options, host)
    except HookError:
        return  # The plan itself says why.
    granted = {one.name: one for one in change.layout.outputs} if change.layout else {}
    for wish in options.outputs:
        got = granted[str(wish["name"])].scale
        if "scale" in wish and abs(float(got.partition("x")[0]) - float(wish["scale"])) > 0.001:
            yield f"{wish['name']} does not support the scale {wish['scale']:g}: it gets {got}"
    dark = sorted(change.screen.layout.lit - change.layout.lit) if change.layout else []
    if dark and change.knob.back_end == "kscreen":
        words = " ".join(f"output.{name}.enable" for name in dark)
        yield (
            f"KWin remembers that {', '.join(dark)} was off. If the host crashes while "
            f"the VM runs, switch it on again with kscreen-doctor {words}"
        )


@record
class _Change:
    """The display as it is, and the `layout` that it gets, None if it stays as it is. `on_cards`
    are the outputs of the passed cards, `cards` the folders of these cards that udev knows."""

    knob: DisplayLayout
    screen: Screen
    layout: Layout | None
    on_cards: set[str]
    cards: list[str]


def _change(domain: Domain, options: Options, host: Host) -> _Change:
    session = choose(host, options.user, options.seat)
    knob, screen = screen_of(host, session, options.timeout)
    on_cards: set[str] = set()
    cards: list[str] = []
    displays = {
        one.address: about.boot_vga
        for one in domain.pci
        if (about := traits(host, one.address)).is_display
    }
    is_x11 = bool(displays) and knob.back_end == "xrandr"
    drawing = providers(knob.ask(host, "--listproviders")) if is_x11 else []
    for address, boots in displays.items():
        hung = connectors(host, address)
        others = connectors_elsewhere(host, drawing, hung)
        outputs = outputs_on(screen, hung, knob.back_end, options.off, others)
        _check_not_first(knob, address, drawing, outputs, boots)
        on_cards |= set(outputs)
        cards += announced_cards(host, address, "drm")
    off = sorted({*options.off, *on_cards})
    is_changed = off or options.primary or options.outputs
    layout = arrange(screen, off, options.primary, options.outputs) if is_changed else None
    return _Change(knob, screen, layout, on_cards, cards)


def screen_of(host: Host, session: Session, seconds: float) -> tuple[DisplayLayout, Screen]:
    """The layout of the session's display, by the first back end that gets an answer. Raises
    HookError."""
    variables = environment(host, session)
    refused: list[HookError] = []
    for back_end in back_ends_for(session.type, variables.get("XDG_CURRENT_DESKTOP", "")):
        knob = _knob(session, back_end, variables, seconds)
        try:
            return knob, knob.screen(host)
        except HookError as error:
            refused.append(error)
    if not refused:
        problem = f"sessions of type {session.type} are not supported"
    elif isinstance(first := refused[0], CommandFailed) and _WLROOTS in first.said:
        problem = "its compositor is not supported"
    else:
        raise refused[0]
    raise HookError(f"{session}: {problem}", f"supported are {SUPPORTED}")


def _knob(
    session: Session, back_end: str, variables: dict[str, str], seconds: float
) -> DisplayLayout:
    needed = "DISPLAY" if back_end == "xrandr" else "XDG_RUNTIME_DIR"
    if needed not in variables:
        raise HookError(f"{session}: no program of this session has {needed} in its environment")
    if back_end != "xrandr":
        # With these, an Xwayland that outlives its compositor would be asked.
        variables = {**variables, "DISPLAY": "", "XAUTHORITY": "", "QT_QPA_PLATFORM": "wayland"}
    known = tuple(f"{name}={variables[name]}" for name in _NEEDED if variables.get(name))
    name = variables["DISPLAY"] if back_end == "xrandr" else variables.get("WAYLAND_DISPLAY")
    return DisplayLayout(back_end, session.user, name or session.type, known, seconds)


def _check_not_first(
    knob: DisplayLayout, address: str, drawing: list[Provider], outputs: list[str], boots: bool
) -> None:
    """Raise HookError for the card that draws the pictures of all others: no desktop survives the
    loss of it."""
    first = _is_provider_0(address, drawing, outputs)
    if first:
        why = f"is provider 0 of {knob.user}'s X server, which draws everything with it"
    elif first is None and boots:
        why = f"is the boot display, and {knob.user} has a desktop on {knob.display}"
    else:
        return
    raise HookError(f"{address} {why}: the desktop would crash without it", _ELSEWHERE)


def _is_provider_0(address: str, drawing: list[Provider], outputs: list[str]) -> bool | None:
    """Whether a card is the X server's own; None if X does not say."""
    if drawing and drawing[0].address:
        return drawing[0].address == address
    return any(map(is_on_first_card, outputs)) if drawing and outputs else None
