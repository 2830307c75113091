"""Who uses a PCI function: the programs that have it open.

An unbind waits inside the kernel, unkillably, until every open file of a sound card is closed. So
these are looked at first.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from vfio_hooks.host import Host
from vfio_hooks.host.devices import class_devices
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.wait import until

# Their drivers wait for open files, or fail when unbound beneath them. An input device or a USB
# serial port does not mind; nor does a DisplayPort's drm_dp_aux_dev, which waits only for a
# transfer that goes on.
_HOLDING = ("drm", "i2c-dev", "sound", "nvme", "block", "hidraw", "mei", "vfio", "vfio-dev")


@dataclass(frozen=True)
class Holder:
    """A process that has a file of the device open."""

    pid: int
    name: str
    file: str

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
        return not found

    until(free, seconds)
    return found


def driver_users(host: Host, module: str) -> list[Holder]:
    """The processes that have a character device of a module's open, by what the module calls
    its devices in /proc/devices: "195 nvidia-frontend" is one of nvidia's."""
    named = module.replace("_", "-")
    nodes: dict[tuple[int, int], str] = {}
    for line in (host.maybe("/proc/devices") or "").partition("Block devices:")[0].splitlines():
        number, _, name = line.strip().partition(" ")
        if name.startswith(named):
            nodes |= {(int(number), minor): f"a device of {name}" for minor in range(256)}
    return _holding(host, nodes)


def told(found: list[Holder]) -> str:
    """Holders, as a clause of an error."""
    return ", ".join(map(str, found[:3])) or "no process is seen to have it open"


def _holding(host: Host, nodes: dict[tuple[int, int], str]) -> list[Holder]:
    """The processes that have one of the nodes, by device number, open."""
    if not host.is_this_machine or not nodes:
        return []
    files = tuple(set(nodes.values()))
    found: list[Holder] = []
    for pid in filter(str.isdecimal, host.names("/proc")):
        held = {nodes[number] for number in _open_devices(pid, files) if number in nodes}
        name = host.maybe(f"/proc/{pid}/comm") or "?"
        found += [Holder(int(pid), name, file) for file in sorted(held)]
    return found


def stuck_writer(host: Host, address: str) -> int | None:
    """The pid of a child of vfio-hooks that still waits inside the kernel for the function's
    driver to let go. While it does, even reading some of the function's files would wait too.

    The child itself is the mark, by its name: nothing has to be remembered or cleaned up.
    """
    if not host.is_this_machine:
        return None
    name = writer_name(address)
    for pid in filter(str.isdecimal, host.names("/proc")):
        if host.maybe(f"/proc/{pid}/comm") == name and _is_roots_python(host, pid):
            return int(pid)
    return None


def writer_name(address: str) -> str:
    """What a child that writes to a function's files is called, in the 15 bytes of a name: the
    functions behind Intel's VMD, "10000:e1:00.0", have longer addresses than others."""
    return f"vh {address.replace(':', '')}"[:15]


def _is_roots_python(host: Host, pid: str) -> bool:
    """Whether a process with a writer's name can be one. Everybody may give a process of his that
    name, and by a link also sudo, which is root's then."""
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    program = host.link(f"/proc/{pid}/exe")  # which a user who asks for a plan is not told
    return owner == 0 and (program is None or program.startswith("python"))


def _nodes(host: Host, address: str) -> Iterator[tuple[tuple[int, int], str]]:
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


def _open_devices(pid: str, files: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """The numbers of the devices that a process has open. Only what is called like a device, or
    one of these in another root, is looked at: a look at a file of a server that does not answer
    would last for ever."""
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it ended meanwhile
        return
    for name in names:
        try:
            path = os.readlink(f"{folder}/{name}")
            if not (path.startswith("/dev/") or path.endswith(files)):
                continue
            seen = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
            yield os.major(seen.st_rdev), os.minor(seen.st_rdev)
