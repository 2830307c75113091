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
"""Programs that have such a node open draw on monitors; those that only compute use renderD."""
_HANGING = ("/dev/dri/", "/dev/snd/", "/dev/nvidia", "/dev/nvme")
"""Nodes whose drivers, when they are unbound, wait for the program or take it down with them."""


def how_to_free(host: Host, found: Sequence[Holder]) -> str:
    """How to make these programs close a device that a VM will get, if nothing has been done about
    that yet."""
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
    """How to stop the service or container that one of the programs belongs to; "" if none belongs
    to any. Services that open cards for desktops must not be stopped."""
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
