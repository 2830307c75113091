"""What a domain gives to QEMU directly, past libvirt's own XML, and what of that never arrives."""

import re
from collections.abc import Iterator
from itertools import pairwise

from vfio_hooks.check.domain.kind import arguments
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen
from vfio_hooks.domain.devices import QEMU
from vfio_hooks.host.pci import SHORT

_SPACE = QEMU.strip("{}")
_PAGE = "https://libvirt.org/kbase/qemu-passthrough-security.html"
_HOST = re.compile(rf"\bhost[\"']?\s*[:=]\s*[\"']?((?:[0-9a-f]{{4,}}:)?{SHORT})")


@guest_rule(
    "argument-set",
    "error",
    why="libvirt describes devices to QEMU as JSON, and QEMU's -set does not find those. It ends "
    "with 'there is no device defined'.",
    source="libvirt's news of 7.9; QEMU's system/vl.c, qemu_set_option; tried with QEMU 10.0",
)
def set_of_device(patient: Patient, guest: Guest) -> Iterator[Seen]:
    given = arguments(guest)
    own = {found for one in given for found in re.findall(r"(?:^|,)id=([^,]+)", one)}
    for option, value in pairwise(given):
        device, _, rest = value.removeprefix("device.").partition(".")
        if option == "-set" and value.startswith("device.") and device not in own:
            name, _, setting = rest.partition("=")
            yield Seen(
                f"-set {value} in <qemu:commandline> keeps QEMU from starting",
                f"remove both <qemu:arg>, and add to the domain: <qemu:override><qemu:device "
                f"alias='{device}'><qemu:frontend><qemu:property name='{name}' "
                f"{_as_property(setting)}/></qemu:frontend></qemu:device></qemu:override>",
            )


def _as_property(setting: str) -> str:
    """A setting of QEMU in libvirt's words: decimal numbers, and "true" for "on"."""
    if setting in ("on", "off"):
        return f"type='bool' value='{'true' if setting == 'on' else 'false'}'"
    try:
        return f"type='unsigned' value='{int(setting, 0)}'"
    except ValueError:
        return f"type='string' value='{setting}'"


@guest_rule(
    "override-unused",
    "warning",
    why="libvirt says nothing about an override for a device that the domain does not have, and "
    "QEMU never gets the property.",
    source=f"{_PAGE}; tried with libvirt 11.3",
    sure="likely",
)
def unused(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # libvirt numbers these in the order of the XML, and a network may turn out to be one, too.
    possible = [*guest.xml.iterfind("devices/hostdev"), *guest.xml.iterfind("devices/interface")]
    named = {one.get("name") for one in guest.xml.iterfind("devices/*/alias")}
    for device in guest.xml.iterfind(f"{QEMU}override/{QEMU}device"):
        alias = device.get("alias", "")
        number = re.fullmatch(r"hostdev(\d+)", alias)
        is_gone = int(number[1]) >= len(possible) if number else alias.startswith("ua-")
        if is_gone and alias not in named:
            yield Seen(
                f"<qemu:override> is for {alias}, but no device of the domain has this alias",
                "hostdev0 is the first <hostdev>; or give the device a name of your own, such as "
                "<alias name='ua-gpu'/>, and use that",
            )


@guest_rule(
    "qemu-elements-dropped",
    "warning",
    why="libvirt drops elements of QEMU's namespace that are not directly inside <domain>, or "
    "whose namespace has another address. It says nothing.",
    source="https://libvirt.org/drvqemu.html; tried with libvirt 11.3",
)
def dropped(patient: Patient, guest: Guest) -> Iterator[Seen]:
    # <metadata> is other programs' own, and libvirt keeps it.
    parts = (one for part in guest.xml if part.tag != "metadata" for one in part.iter())
    for element in parts:
        space, _, name = str(element.tag).removeprefix("{").rpartition("}")
        if name not in ("commandline", "override", "deprecation", "capabilities"):
            continue
        if not space:
            how = f"<{name}> is in no namespace"
        elif space != _SPACE:
            how = f"the namespace of <{name}> is {space}"
        elif element.getparent() is not guest.xml:
            how = f"<{name}> is not directly inside <domain>"
        else:
            continue
        yield Seen(
            f"{how}, so libvirt drops it",
            f"put it directly inside <domain>, as <qemu:{name} xmlns:qemu='{_SPACE}'>",
        )


@guest_rule(
    "device-by-argument",
    "warning",
    why="libvirt does not look into <qemu:commandline>. So it does not take such a device from its "
    "driver, allow QEMU to open the device's VFIO group or to lock the guest's memory, or show the "
    "device to the hook.",
    source="https://libvirt.org/drvqemu.html, cgroups device ACLs; "
    "https://libvirt.org/formatdomain.html#host-device-assignment",
)
def by_argument(patient: Patient, guest: Guest) -> Iterator[Seen]:
    given = [
        found[1]
        for name, value in pairwise(arguments(guest))
        if name == "-device" and "vfio-pci" in value and (found := _HOST.search(value))
    ]
    if given:
        one = len(given) == 1
        yield Seen(
            f"{', '.join(given)} {'is' if one else 'are'} given to the guest by "
            f"<qemu:commandline>, not by <hostdev>",
            f"<hostdev mode='subsystem' type='pci' managed='yes'> with "
            f"{'this address' if one else 'these addresses'}, and remove the <qemu:arg>",
        )


RULES = (by_argument, set_of_device, unused, dropped)
