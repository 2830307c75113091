"""Emulated devices that a guest with a real graphics card does not need."""

from collections.abc import Iterator

from vfio_hooks.check.domain.facts import passed
from vfio_hooks.check.domain.kind import attribute, is_macos
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import drop, put

_TABLET = "devices/input[@type='tablet'][@bus='usb']"


def _has_picture(patient: Patient, guest: Guest) -> bool:
    return any(device.has_outputs for device in passed(patient, guest))


@guest_rule(
    "extra-tablet",
    "hint",
    why="An emulated USB tablet is polled many times a second, all the time.",
    source="input-devices",
    sure="likely",
)
def tablet(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find(_TABLET) is None or not _has_picture(patient, guest) or is_macos(guest):
        return
    shown = guest.xml.find("devices/graphics") is not None
    yield Seen(
        "the guest has an emulated USB tablet",
        "unless you use the window of SPICE or VNC" if shown else "",
        (drop(_TABLET),),
        by_hand=shown,
    )


@guest_rule(
    "extra-video",
    "hint",
    why="The guest has a second display on it, where windows get lost, and QEMU keeps drawing it.",
    source="video-devices",
    sure="possible",
)
def video(patient: Patient, guest: Guest) -> Iterator[Seen]:
    model = attribute(guest, "devices/video/model", "type")
    # Looking Glass shows what is on a plain VGA while its own picture is not there yet.
    if model in (None, "none") or (model == "vga" and guest.domain.shared):
        return
    if _has_picture(patient, guest):
        yield Seen(
            f"besides its graphics card the guest has an emulated one ({model})",
            "once the guest shows a picture without it",
            (put("devices/video/model", type="none"),),
            by_hand=True,
        )


@guest_rule(
    "console-without-spice",
    "error",
    why="Channels, sound and USB redirection over SPICE need its server. Without <graphics "
    "type='spice'> libvirt refuses to define a domain that has them.",
    source="libvirt's qemu_validate.c, not supported without spice graphics",
)
def spice(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find("devices/graphics[@type='spice']") is not None:
        return
    kinds = (
        ("channel", "spicevmc"),
        ("channel", "spiceport"),
        ("redirdev", "spicevmc"),
        ("smartcard", "spicevmc"),
        ("serial", "spiceport"),
        ("audio", "spice"),
    )
    paths = [f"devices/{tag}[@type='{kind}']" for tag, kind in kinds]
    found = [path for path in paths if guest.xml.find(path) is not None]
    if found:
        names = [path.removeprefix("devices/").partition("[")[0] for path in found]
        edits = [drop(path) for path in found if "audio" not in path]
        if guest.xml.find("devices/audio[@type='spice']") is not None:
            edits.append(put("devices/audio[@type='spice']", type="none"))
        yield Seen(
            f"there is no SPICE server for <{'>, <'.join(dict.fromkeys(names))}> of the type spice",
            "or add <graphics type='spice'/>",
            tuple(edits),
        )


@guest_rule(
    "sound-session",
    "warning",
    why="The sound goes to a server that a user's session runs. [session] ends that session when "
    "the VM starts, so QEMU finds no server, or loses it.",
    source="https://libvirt.org/formatdomain.html#audio-backends",
    sure="likely",
)
def sound(patient: Patient, guest: Guest) -> Iterator[Seen]:
    options = patient.tables.get("session")
    if options is None or getattr(options, "manager", None) == "none":
        return
    kinds = [one.get("type") for one in guest.xml.iterfind("devices/audio")]
    found = [kind for kind in kinds if kind in ("pipewire", "pulseaudio", "jack")]
    if found:
        yield Seen(
            f"the guest's sound goes through a user's {found[0]}, but [session] ends the session",
            "pass a sound card or a USB sound device; or keep that user's services running: "
            "loginctl enable-linger USER",
        )


RULES = (spice, sound, tablet, video)
