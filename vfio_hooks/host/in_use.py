"""Which programs use a PCI function, because they have it open.

An unbind waits inside the kernel, unkillably, until every open file of a sound card is closed. So
these are checked first.

All processes are looked at in one go, and the result counts for a second, because a VM may have
dozens of functions, and the host thousands of processes.
"""

from __future__ import annotations

import os
import stat
import time

from vfio_hooks.host.devices import class_devices
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.record import record
from vfio_hooks.wait import until

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import Host

# The drivers of these wait for open files, or fail when they are unbound under them. Input devices
# and USB serial ports do not mind. Nor does a DisplayPort's drm_dp_aux_dev, which only waits for a
# transfer that is going on.
_HOLDING = ("drm", "i2c-dev", "sound", "nvme", "block", "hidraw", "mei", "vfio", "vfio-dev")
_SEAT_MANAGERS = ("systemd-logind", "elogind-daemon", "seatd")
_FRESH = 1.0
"""For how many seconds a look at all processes counts. A program that opens a device a moment later
would be missed in any case."""

_WRITER = "vh "

Number = tuple[int, int]
"""Major and minor number of a device."""


@record
class Holder:
    """A process that has a file of the device open."""

    pid: int
    name: str
    file: str

    @property
    def is_seat_manager(self) -> bool:
        """Whether it opens cards for a desktop and keeps them open until the desktop closes them.
        If it is stopped, the desktop ends. systemd itself, pid 1, also keeps open what logind has
        open, so that logind can be restarted. org.freedesktop.login1(5), and
        FileDescriptorStoreMax= in systemd.service(5)."""
        return self.pid == 1 or self.name in _SEAT_MANAGERS

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) has {self.file} open"


def holders(host: Host, address: str) -> list[Holder]:
    """The processes that have one of the function's device nodes open; none for a captured host,
    whose processes cannot be seen."""
    return _holding(host, dict(_nodes(host, address)))


def holders_after(host: Host, address: str, seconds: float) -> list[Holder]:
    """The processes that still have one of the function's nodes open after `seconds`. Returns at
    once when there are none."""
    found: list[Holder] = []

    def free() -> bool:
        found[:] = holders(host, address)
        if found:
            host.seen.opened = None
        return not found

    until(free, seconds)
    return found


def driver_users(host: Host, module: str) -> list[Holder]:
    """The processes that have a character device of a module open. In /proc/devices these begin
    with the module's name: "195 nvidia-frontend" is one of nvidia's."""
    named = module.replace("_", "-")
    nodes: dict[Number, str] = {}
    for line in (host.maybe("/proc/devices") or "").partition("Block devices:")[0].splitlines():
        number, _, name = line.strip().partition(" ")
        if name.startswith(named):
            nodes |= {(int(number), minor): f"a device of {name}" for minor in range(256)}
    return _holding(host, nodes)


def is_users(host: Host, pid: int) -> bool:
    """Whether a process belongs to a user's session, and not to a service of the system."""
    return "/user.slice/" in (host.maybe(f"/proc/{pid}/cgroup") or "")


def unit_of(host: Host, pid: int) -> str | None:
    """The system's service that a process belongs to, or None. cgroups(7), systemd.slice(5)"""
    group = (host.maybe(f"/proc/{pid}/cgroup") or "").rpartition(":")[2]
    parts = [part for part in group.split("/") if part.endswith(".service")]
    return parts[0] if parts and "/system.slice/" in group else None


def told(found: list[Holder]) -> str:
    """Holders as a clause of an error. Seat managers are left out unless there are no others."""
    own = [holder for holder in found if not holder.is_seat_manager] or found
    return ", ".join(map(str, own[:3])) or "no process can be seen that has it open"


def _holding(host: Host, nodes: dict[Number, str]) -> list[Holder]:
    """The processes that have one of the nodes, by device number, open."""
    if not host.is_this_machine or not nodes:
        return []
    held = _opened(host).having(nodes)
    return [Holder(pid, host.maybe(f"/proc/{pid}/comm") or "?", file) for pid, file in sorted(held)]


def stuck_writer(host: Host, address: str) -> int | None:
    """The pid of a child of vfio-hooks that still waits inside the kernel for the function's driver
    to let go, or None. Until then, even a read of some of the function's files would wait.

    The child is recognised by its name, so nothing has to be remembered or cleaned up. We look for
    such children once, and again when a write of this process has left one behind.
    """
    if not host.is_this_machine:
        return None
    if host.seen.writers is None:
        host.seen.writers = _writers(host)
    name = writer_name(address)
    pid = host.seen.writers.get(name)
    return pid if pid and host.maybe(f"/proc/{pid}/comm") == name else None


def _writers(host: Host) -> dict[str, int]:
    """Every process that has the name of a writer and can be one, by name."""
    named = {
        int(pid): host.maybe(f"/proc/{pid}/comm") or ""
        for pid in filter(str.isdecimal, host.names("/proc"))
    }
    return {
        name: pid
        for pid, name in named.items()
        if name.startswith(_WRITER) and _is_roots_python(host, pid)
    }


def writer_name(address: str) -> str:
    """The name of a child that writes to a function's files, in the 15 bytes that a name can have.
    Functions behind Intel's VMD, "10000:e1:00.0", have longer addresses than others."""
    return f"{_WRITER}{address.replace(':', '')}"[:15]


def _is_roots_python(host: Host, pid: int) -> bool:
    """Whether a process with a writer's name can be one. Any user may give a process that name, and
    by a link even sudo, which then runs as root."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    program = host.link(f"/proc/{pid}/exe")  # which a user who asks for a plan is not told
    return owner == 0 and (program is None or program.startswith("python"))


def _nodes(host: Host, address: str) -> Iterator[tuple[Number, str]]:
    """Device number and path of the nodes that may not be open."""
    for _, folder in class_devices(host, f"{DEVICES}/{address}"):
        number = host.maybe(f"{folder}/dev")
        if number and host.link(f"{folder}/subsystem") in _HOLDING:
            lines = host.lines(f"{folder}/uevent")
            names = [line.removeprefix("DEVNAME=") for line in lines if "DEVNAME=" in line]
            major, _, minor = number.partition(":")
            yield (int(major), int(minor)), f"/dev/{names[0] if names else number}"
    # A program that has an IOMMU group's node open has all functions of the group that VFIO has.
    group = host.link(f"{DEVICES}/{address}/iommu_group")
    if number := host.maybe(f"/sys/class/vfio/{group}/dev"):
        major, _, minor = number.partition(":")
        yield (int(major), int(minor)), f"/dev/vfio/{group}"
    # nvidia's nodes do not belong to any class in sysfs.
    about = host.maybe(f"/proc/driver/nvidia/gpus/{address}/information") or ""
    for line in about.splitlines():
        key, _, text = line.partition(":")
        if key.strip() == "Device Minor" and text.strip().isdecimal():
            yield (195, int(text)), f"/dev/nvidia{text.strip()}"


class Opened:
    """What all processes have open: devices by number, and files whose name ends like a device's,
    as in another root. The latter are only examined when asked for: examining a file on a server
    that does not answer would take forever."""

    def __init__(self) -> None:
        self.devices: dict[Number, set[int]] = {}
        """The pids that have each device open."""
        self.others: list[tuple[int, str, str]] = []
        """pid, the link in its fd folder, and the path that it shows."""

    def look(self, pid: int) -> None:
        folder = f"/proc/{pid}/fd"
        try:
            names = os.listdir(folder)
        except OSError:  # it ended meanwhile
            return
        for name in names:
            link = f"{folder}/{name}"
            try:
                path = os.readlink(link)
            except OSError:
                continue
            if path.startswith("/dev/"):
                self._add(pid, link)
            elif "/dev/" in path:
                self.others.append((pid, link, path))

    def having(self, nodes: dict[Number, str]) -> set[tuple[int, str]]:
        """The pids that have any of these nodes open, each with the node's path."""
        files = tuple(set(nodes.values()))
        wanted = [other for other in self.others if other[2].endswith(files)]
        self.others = [other for other in self.others if other not in wanted]
        for pid, link, _ in wanted:
            self._add(pid, link)
        return {(pid, file) for number, file in nodes.items() for pid in self._pids(number)}

    def _pids(self, number: Number) -> set[int]:
        return self.devices.get(number, set())

    def _add(self, pid: int, link: str) -> None:
        try:
            seen = os.stat(link)
        except OSError:
            return
        if stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
            self.devices.setdefault((os.major(seen.st_rdev), os.minor(seen.st_rdev)), set()).add(
                pid
            )


def _opened(host: Host) -> Opened:
    now = time.monotonic()
    if host.seen.opened is None or now - host.seen.opened[0] > _FRESH:
        opened = Opened()
        for pid in filter(str.isdecimal, host.names("/proc")):
            opened.look(int(pid))
        host.seen.opened = now, opened
    return host.seen.opened[1]
