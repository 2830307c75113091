"""What to do about programs that have a device open; the advice must never do harm."""

from __future__ import annotations

import re

from vfio_hooks.host.units import is_display_manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfio_hooks.host import Host
    from vfio_hooks.host.in_use import Holder

_SERVICE = re.compile(r"0::/system\.slice/(?:.*/)?([^/]+\.service)(?:/|$)", re.MULTILINE)
_CONTAINER = re.compile(r"0::/.*\b(docker|libpod|lxc|machine)\b", re.MULTILINE)
_DESKTOPS = "/dev/dri/card"
"""What has one open draws on the monitors: programs that only compute have a renderD node."""
_HANGING = ("/dev/dri/", "/dev/snd/", "/dev/nvidia", "/dev/nvme")
"""Whose drivers wait for the program when they are unbound, or take it along."""


def how_to_free(host: Host, found: Sequence[Holder]) -> str:
    """How to have these programs close a device that is to be lent: for one that nothing has been
    done about yet."""
    if service := service_of(host, found):
        return service
    if is_desktops(found):
        return (
            "[display] in vm.toml makes a desktop on another card close it; [session] ends a "
            "desktop on this card until the VM ends"
        )
    if any(holder.file.startswith(_HANGING) for holder in found):
        return "end it before the VM starts"
    return 'close it; or set in_use = "take" in [pci] to unbind it anyway'


def service_of(host: Host, found: Sequence[Holder]) -> str:
    """How to stop the service or container that one of the programs belongs to; "" where none
    does. One that opens cards for desktops must not be stopped."""
    for holder in found:
        if holder.is_seat_manager:
            continue
        groups = host.maybe(f"/proc/{holder.pid}/cgroup") or ""
        service = _SERVICE.search(groups)
        if service and is_display_manager(host, service[1]):
            # lightdm and sddm run the X server in their own service.
            return (
                f"it belongs to the display manager, {service[1]}: [display] in vm.toml makes a "
                f"desktop on another card close it; [session] ends the desktop until the VM ends"
            )
        if service:
            return (
                f"it belongs to {service[1]}, which stops for the VM's run with "
                f'unit = "{service[1]}" in [[service]]'
            )
        if "/user.slice/" not in groups and _CONTAINER.search(groups):
            return "it runs in a container or a VM: stop that first"
    return ""


def is_desktops(found: Sequence[Holder]) -> bool:
    """Whether one of the programs draws a desktop."""
    return any(holder.file.startswith(_DESKTOPS) for holder in found)
