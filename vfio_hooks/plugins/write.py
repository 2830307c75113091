"""Any other value of the kernel that is a file of sysfs or a sysctl, set while the VM runs.

There may be several tables, one for each value:

    [[write]]
    path = "vm.dirty_ratio"
    value = 5

    [[write]]
    path = "/sys/class/net/enp5s0/gro_flush_timeout"
    value = 20000

The previous value is restored when the VM ends, unless somebody else has changed it in the
meantime. If several VMs need different values, the VM that was started last decides.
"""

import os
from collections.abc import Iterator

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError, reason
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.trigger import Trigger
from vfio_hooks.record import record
from vfio_hooks.sharing import Once, Override
from vfio_hooks.steps import Step

MULTIPLE = True
_ALLOWED = ("/sys/", "/proc/sys/")


@record
class Options:
    path: str
    """A file below /sys or /proc/sys, or the name of a sysctl, such as "vm.dirty_ratio"."""
    value: str | int
    """The value, as the kernel shows it when the file is read ("Y", not 1, if it shows Y or N)."""
    once: bool = False
    """With true, nothing is put back: for files that can only be written."""

    def __post_init__(self) -> None:
        parts = _file(self.path).split("/")[1:]
        if not _file(self.path).startswith(_ALLOWED) or {"", ".", ".."} & set(parts):
            raise ValueError(
                f"path must be a file below /sys or /proc/sys or the name of a sysctl, not "
                f"{self.path!r}"
            )


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    name = _real(host, _file(options.path))
    value = " ".join(str(options.value).split())
    if options.once:
        yield Step("write", Trigger(name), Once(value))
        return
    try:
        host.read(name)
    except OSError as error:
        raise HookError(
            f"{options.path} cannot be read, so it could not be restored: {reason(error)}",
            "if the file can only be written, set once = true",
        ) from None
    yield Step("write", File(name), Override(value))


def _file(path: str) -> str:
    """The file of a sysctl, or a path as it is. As with sysctl(8), a name's first separator
    tells which of "." and "/" separates: net.ipv4.conf.eth0/100.forwarding has a dot in it."""
    if path.startswith("/"):
        return path
    first = next((one for one in path if one in "./"), "/")
    return "/proc/sys/" + (path.translate(str.maketrans("./", "/.")) if first == "." else path)


def _real(host: Host, name: str) -> str:
    """A path without symbolic links, so that one value has one name. Raises HookError if it does
    not exist, or if a link leads elsewhere."""
    if not host.exists(name):
        raise HookError(f"{name}: no such file on this host")
    root = os.path.realpath(host.root) if host.root else ""
    real = os.path.realpath(host.path(name))
    if not real.startswith(tuple(root + folder for folder in _ALLOWED)):
        raise HookError(f"{name} leads to {real}, which is not below /sys or /proc/sys")
    return real.removeprefix(root)
