"""Who uses a PCI function: the programs that have it open.

An unbind waits inside the kernel, unkillably, until every open file of a sound card is closed. So
these are looked at first.

All processes are looked at in one go, and what was seen counts for a second: a VM may have dozens
of functions, and the host thousands of processes.
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

# Their drivers wait for open files, or fail when unbound beneath them. An input device or a USB
# serial port does not mind; nor does a DisplayPort's drm_dp_aux_dev, which waits only for a
# transfer that goes on.
_HOLDING = ("drm", "i2c-dev", "sound", "nvme", "block", "hidraw", "mei", "vfio", "vfio-dev")
_SEAT_MANAGERS = ("systemd-logind", "elogind-daemon", "seatd")
_FRESH = 1.0
"""Seconds for which a look at what all processes have open counts. Who opens a device a moment
later is not seen by any look."""

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
        """Whether it opens cards for a desktop, keeps them open as well, and closes them when the
        desktop does. If it is stopped, the desktop ends. systemd itself, pid 1, keeps open what
        logind has open, so that logind can be restarted. org.freedesktop.login1(5), and
        FileDescriptorStoreMax= in systemd.service(5)"""
        return self.pid == 1 or self.name in _SEAT_MANAGERS

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) has {self.file} open"


def holders(host: Host, address: str) -> list[Holder]:
    """The processes that have one of the function's device nodes open; none on a host that is
    not this machine, whose processes cannot be seen."""
    return _holding(host, dict(_nodes(host, address)))


def holders_after(host: Host, address: str, seconds: float) -> list[Holder]:
    """Who still has one of the function's nodes open after `seconds`; at once, when nobody has."""
    found: list[Holder] = []

    def free() -> bool:
        found[:] = holders(host, address)
        if found:
            host.seen.opened = None
        return not found

    until(free, seconds)
    return found


def driver_users(host: Host, module: str) -> list[Holder]:
    """The processes that have a character device of a module's open, by what the module calls
    its devices in /proc/devices: "195 nvidia-frontend" is one of nvidia's."""
    named = module.replace("_", "-")
    nodes: dict[Number, str] = {}
    for line in (host.maybe("/proc/devices") or "").partition("Block devices:")[0].splitlines():
        number, _, name = line.strip().partition(" ")
        if name.startswith(named):
            nodes |= {(int(number), minor): f"a device of {name}" for minor in range(256)}
    return _holding(host, nodes)


def is_users(host: Host, pid: int) -> bool:
    """Whether a process is of a user's session, as opposed to a service of the system."""
    return "/user.slice/" in (host.maybe(f"/proc/{pid}/cgroup") or "")


def unit_of(host: Host, pid: int) -> str | None:
    """The system's service that a process belongs to, or None. cgroups(7), systemd.slice(5)"""
    group = (host.maybe(f"/proc/{pid}/cgroup") or "").rpartition(":")[2]
    parts = [part for part in group.split("/") if part.endswith(".service")]
    return parts[0] if parts and "/system.slice/" in group else None


def told(found: list[Holder]) -> str:
    """Holders, as a clause of an error. Those that have it open for a desktop are left out, unless
    there are no others."""
    own = [holder for holder in found if not holder.is_seat_manager] or found
    return ", ".join(map(str, own[:3])) or "no process can be seen that has it open"


def _holding(host: Host, nodes: dict[Number, str]) -> list[Holder]:
    """The processes that have one of the nodes, by device number, open."""
    if not host.is_this_machine or not nodes:
        return []
    held = _opened(host).having(nodes)
    return [Holder(pid, host.maybe(f"/proc/{pid}/comm") or "?", file) for pid, file in sorted(held)]


def stuck_writer(host: Host, address: str) -> int | None:
    """The pid of a child of vfio-hooks that still waits inside the kernel for the function's
    driver to let go. While it does, even reading some of the function's files would wait too.

    The child itself is the mark, by its name: nothing has to be remembered or cleaned up. They
    are looked for once, and again when a write of this process has left one behind.
    """
    if not host.is_this_machine:
        return None
    if host.seen.writers is None:
        host.seen.writers = _writers(host)
    name = writer_name(address)
    pid = host.seen.writers.get(name)
    return pid if pid and host.maybe(f"/proc/{pid}/comm") == name else None


def _writers(host: Host) -> dict[str, int]:
    """Every process that is called like a writer, and can be one, by name."""
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
    """What a child that writes to a function's files is called, in the 15 bytes of a name: the
    functions behind Intel's VMD, "10000:e1:00.0", have longer addresses than others."""
    return f"{_WRITER}{address.replace(':', '')}"[:15]


def _is_roots_python(host: Host, pid: int) -> bool:
    """Whether a process with a writer's name can be one. Everybody may give a process of his that
    name, and by a link also sudo, which is root's then."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    program = host.link(f"/proc/{pid}/exe")  # which a user who asks for a plan is not told
    return owner == 0 and (program is None or program.startswith("python"))


def _nodes(host: Host, address: str) -> Iterator[tuple[Number, str]]:
    """Device number and path of the nodes whose open files matter."""
    for _, folder in class_devices(host, f"{DEVICES}/{address}"):
        number = host.maybe(f"{folder}/dev")
        if number and host.link(f"{folder}/subsystem") in _HOLDING:
            lines = host.lines(f"{folder}/uevent")
            names = [line.removeprefix("DEVNAME=") for line in lines if "DEVNAME=" in line]
            major, _, minor = number.partition(":")
            yield (int(major), int(minor)), f"/dev/{names[0] if names else number}"
    # Through its IOMMU group's node a program has all functions of the group that VFIO has.
    group = host.link(f"{DEVICES}/{address}/iommu_group")
    if number := host.maybe(f"/sys/class/vfio/{group}/dev"):
        major, _, minor = number.partition(":")
        yield (int(major), int(minor)), f"/dev/vfio/{group}"
    # nvidia's nodes are its own, not of any class in sysfs.
    about = host.maybe(f"/proc/driver/nvidia/gpus/{address}/information") or ""
    for line in about.splitlines():
        key, _, text = line.partition(":")
        if key.strip() == "Device Minor" and text.strip().isdecimal():
            yield (195, int(text)), f"/dev/nvidia{text.strip()}"


class Opened:
    """What all processes have open: devices by number, and files that only end like the name of
    a device, as one does in another root. Those are looked at when they are asked for: a look at
    a file of a server that does not answer would last for ever."""

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
