"""A keyboard and a mouse that the guest is given by their event devices (evdev)."""

import re
from collections.abc import Iterator

from vfio_hooks.check.domain.kind import arguments
from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Seen

_EVENT = re.compile(r"(?:^|\bevdev=)(/dev/input/event\d+)(?:,|$)")


@guest_rule(
    "input-unstable-name",
    "warning",
    why="The kernel numbers input devices in the order in which it finds them. After the next boot "
    "the number may be another device's, and the guest gets no keyboard or mouse.",
    source="udev(7); https://libvirt.org/formatdomain.html#input-devices",
)
def unstable(patient: Patient, guest: Guest) -> Iterator[Seen]:
    sources = guest.xml.iterfind("devices/input[@type='evdev']/source")
    given = [*(one.get("dev", "") for one in sources), *arguments(guest)]
    found = [name[1] for one in given if (name := _EVENT.search(one))]
    if found:
        yield Seen(
            f"the guest gets {', '.join(found)}, which may be another device after the next boot",
            f"its name in /dev/input/by-id: ls -l /dev/input/by-id | grep {found[0][11:]}",
        )


RULES = (unstable,)
