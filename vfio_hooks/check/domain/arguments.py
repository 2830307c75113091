"""Devices that QEMU is told of in a way that libvirt does not look after, or that may change."""

import re
from collections.abc import Iterator
from itertools import pairwise

from vfio_hooks.check.domain.kind import arguments
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen

_ADDRESS = r"(?:[0-9a-f]{4,}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]"
_HOST = re.compile(rf"\bhost[\"']?\s*[:=]\s*[\"']?({_ADDRESS})")
_EVENT = re.compile(r"/dev/input/event\d+")


@guest_rule(
    "device-by-argument",
    "warning",
    why="libvirt does not look into <qemu:commandline>: it takes such a device from no driver, "
    "lets QEMU neither open its VFIO group nor lock the guest's memory, and tells no hook of it.",
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


@guest_rule(
    "input-unstable-name",
    "warning",
    why="The kernel numbers input devices in the order in which it finds them. After the next boot "
    "the number may be another device's, and the guest gets no keyboard or mouse.",
    source="udev(7); https://libvirt.org/formatdomain.html#input-devices",
)
def unstable(patient: Patient, guest: Guest) -> Iterator[Seen]:
    sources = guest.xml.iterfind("devices/input[@type='evdev']/source")
    found = [name for one in sources if _EVENT.fullmatch(name := one.get("dev", ""))]
    if found:
        yield Seen(
            f"the guest gets {', '.join(found)}, which may be another device after the next boot",
            f"its name in /dev/input/by-id: ls -l /dev/input/by-id | grep {found[0][11:]}",
        )


RULES = (by_argument, unstable)
