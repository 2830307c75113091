"""Who uses a PCI function: programs that hold it open, and what would be lost with it.

An unbind waits inside the kernel, unkillably, until every open file of a sound card is closed;
it takes mounted file systems and the network away without asking. So both are looked at first.
"""

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from vfio_hooks.host import Host, network
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.wait import until

# Their drivers wait for open files, or fail when unbound beneath them. An input device or a USB
# serial port does not mind.
_HOLDING = ("drm", "sound", "nvme", "block", "hidraw", "mei", "vfio")

# The profiles at whose processes libvirtd's own, and so a hook, may look. A look at any other is
# refused, and leaves a line of AppArmor's in the kernel log.
_VISIBLE = ("unconfined", "libvirtd", "libvirt-", "virtqemud")


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
    found: list[Holder] = []
    for pid in filter(str.isdecimal, host.names("/proc")):
        if not may_look(host, pid):
            continue
        held = {nodes[number] for number in _open_devices(pid) if number in nodes}
        name = host.maybe(f"/proc/{pid}/comm") or "?"
        found += [Holder(int(pid), name, file) for file in sorted(held)]
    return found


def may_look(host: Host, pid: str) -> bool:
    """Whether this process, which AppArmor may confine, may look at another's files.

    A confined hook may not look at the daemon's other children, our siblings: one that has
    libvirtd's own label still may become virt-aa-helper, with a profile of its own, between this
    look and the next.
    """
    if not _label(host, "self").endswith("(enforce)"):
        return True
    status = host.maybe(f"/proc/{pid}/status") or ""
    sibling = f"\nPPid:\t{os.getppid()}\n" in status and int(pid) != os.getpid()
    return not sibling and _label(host, pid).startswith(_VISIBLE)


def _label(host: Host, pid: str) -> str:
    """The AppArmor profile of a process: "libvirtd (enforce)", "unconfined"."""
    return host.maybe(f"/proc/{pid}/attr/current") or ""


def stuck_writer(host: Host, address: str) -> int | None:
    """The pid of a child of vfio-hooks that still waits inside the kernel for the function's
    driver to let go. While it does, even reading some of the function's files would wait too.

    The child itself is the mark, by its name: nothing has to be remembered or cleaned up.
    """
    if not host.is_this_machine:
        return None
    for pid in filter(str.isdecimal, host.names("/proc")):
        if host.maybe(f"/proc/{pid}/comm") == writer_name(address):
            return int(pid)
    return None


def writer_name(address: str) -> str:
    """What a child that writes to a function's files is called, in the 15 bytes of a name."""
    return f"vh {address}"[:15]


def losses(host: Host, address: str) -> list[str]:
    """What the host would lose with the function, as clauses: "/home is mounted from nvme0n1"."""
    return lost_below(host, f"{DEVICES}/{address}")


def lost_below(host: Host, top: str) -> list[str]:
    """What it would lose with a device of any bus, by the device's folder in sysfs."""
    found = []
    for device, folder in _class_devices(host, top):
        subsystem = host.link(f"{folder}/subsystem")
        if subsystem == "block":
            found += _block_losses(host, device, folder)
        elif subsystem == "net":
            found += network.losses(host, device)
    return found


def _class_devices(host: Host, top: str) -> Iterator[tuple[str, str]]:
    """Name and folder of every device below a folder, those of other PCI functions left out:
    a bridge's folder has the folders of all that is behind it."""
    folders = [top]
    while folders:
        folder = folders.pop()
        for name in host.names(folder):
            below = f"{folder}/{name}"
            path = host.path(below)
            if os.path.islink(path) or not os.path.isdir(path):
                continue
            subsystem = host.link(f"{below}/subsystem")
            if subsystem == "pci":
                continue
            folders.append(below)
            if subsystem is not None:
                yield name, below


def _nodes(host: Host, address: str) -> Iterator[tuple[tuple[int, int], str]]:
    """Device number and path of the nodes whose open files matter."""
    for _, folder in _class_devices(host, f"{DEVICES}/{address}"):
        number = host.maybe(f"{folder}/dev")
        if number and host.link(f"{folder}/subsystem") in _HOLDING:
            lines = (host.maybe(f"{folder}/uevent") or "").splitlines()
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


def _open_devices(pid: str) -> Iterator[tuple[int, int]]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:  # it ended meanwhile
        return
    for name in names:
        try:
            seen = os.stat(f"{folder}/{name}")
        except OSError:
            continue
        if stat.S_ISCHR(seen.st_mode) or stat.S_ISBLK(seen.st_mode):
            yield os.major(seen.st_rdev), os.minor(seen.st_rdev)


def _block_losses(host: Host, device: str, folder: str) -> list[str]:
    found = [*_mounts(host, device, folder), *_swaps(host, device)]
    for holder in host.names(f"{folder}/holders"):
        name = host.maybe(f"/sys/class/block/{holder}/dm/name")
        found.append(f"{device} is part of {f'{name} ({holder})' if name else holder}")
    if not found and host.is_this_machine and _is_claimed(f"/dev/{device}"):
        found.append(f"{device} is claimed by the kernel, as for a ZFS pool")
    return found


def _mounts(host: Host, device: str, folder: str) -> Iterator[str]:
    """Mounts by device number, and by name: btrfs shows a number of its own."""
    number = host.maybe(f"{folder}/dev")
    for line in (host.maybe("/proc/self/mountinfo") or "").splitlines():
        fields = line.split(" ")
        source = line.partition(" - ")[2].split(" ")[1:2]
        if fields[2] == number or source == [f"/dev/{device}"]:
            yield f"{fields[4]} is mounted from {device}"


def _swaps(host: Host, device: str) -> Iterator[str]:
    for line in (host.maybe("/proc/swaps") or "").splitlines()[1:]:
        if line.split()[0] == f"/dev/{device}":
            yield f"{device} is swap space"


def _is_claimed(node: str) -> bool:
    """Whether an exclusive open is refused, as it is for all that has no holder in sysfs: ZFS."""
    try:
        os.close(os.open(node, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        return error.errno == errno.EBUSY
    return False
