"""Emulated devices that a guest with a real graphics card may do without."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vfio_hooks.check.domain.facts import attribute, passed
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.editing import remove

if TYPE_CHECKING:
    from lxml.etree import _Element

_TABLET = "devices/input[@type='tablet'][@bus='usb']"


def _has_gpu(patient: Patient, guest: Guest) -> bool:
    return any(device.is_gpu for device in passed(patient, guest))


@guest_rule(
    "extra-tablet",
    "hint",
    why="An emulated USB tablet is polled many times a second, all the time.",
    source="input-devices",
    sure="likely",
)
def tablet(patient: Patient, guest: Guest) -> Iterator[Seen]:
    if guest.xml.find(_TABLET) is not None and _has_gpu(patient, guest):
        shown = guest.xml.find("devices/graphics") is not None
        yield Seen(
            "the guest has an emulated USB tablet",
            "remove <input type='tablet' bus='usb'>"
            + (", unless you use the window of SPICE or VNC" if shown else ""),
            None if shown else _no_tablet,
        )


def _no_tablet(root: "_Element") -> None:
    for one in root.findall(_TABLET):
        remove(one)


@guest_rule(
    "extra-video",
    "hint",
    why="The guest has a second display on it, where windows go astray, and QEMU keeps drawing it.",
    source="video-devices",
    sure="possible",
)
def video(patient: Patient, guest: Guest) -> Iterator[Seen]:
    model = attribute(guest, "devices/video/model", "type")
    if model not in (None, "none") and _has_gpu(patient, guest):
        yield Seen(
            f"beside its graphics card the guest has an emulated one ({model})",
            "<video><model type='none'/></video>, once the guest shows a picture without it",
        )


@guest_rule(
    "extra-sound",
    "hint",
    why="Emulated sound depends on timers of a guest that may be late: it crackles. A passed USB "
    "controller or sound card does not.",
    source="guide: audio",
    sure="possible",
)
def sound(patient: Patient, guest: Guest) -> Iterator[Seen]:
    model = attribute(guest, "devices/sound", "model")
    if model is not None and _has_gpu(patient, guest):
        yield Seen(
            f"the guest has an emulated sound card ({model})",
            f"remove <sound model='{model}'>, if the guest's sound goes another way",
        )


RULES = (tablet, video, sound)
