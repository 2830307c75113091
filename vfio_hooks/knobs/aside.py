"""Writes to files of a device that the kernel may never return from."""

from __future__ import annotations

import errno

from vfio_hooks.errors import Late
from vfio_hooks.host import WritableHost, refused
from vfio_hooks.host.in_use import writer_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

WHY = "see dmesg, or vfio-hooks why"


def write_aside(
    host: WritableHost,
    device: str,
    path: str,
    text: str,
    seconds: float,
    action: str,
    tolerated: Container[int] = (),
    hint: str = WHY,
) -> None:
    """Write in a child process, which is left behind if it takes longer than `seconds`.

    Raises Late in that case, and HookError if the kernel refuses the write with an errno that is
    not among the `tolerated`. `action` says what is done to the device: "unbind".
    """
    try:
        host.write_aside(path, text, seconds, writer_name(device))
    except OSError as error:
        if error.errno == errno.ETIMEDOUT:
            raise Late(f"{device}: cannot {action} within {seconds:g} s", WHY) from None
        if error.errno not in tolerated:
            raise refused(action, device, error, hint) from None
