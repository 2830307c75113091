"""Memory that guest and host share, as for Looking Glass and Scream: it exists, with the right
owner, before the VM starts.

Files in /dev/shm are made in the size of the domain's <shmem> device, and removed when the VM has
ended. A file that existed before keeps its content and gets its former owner back. This also works
for a memory-backend-file with mem-path=/dev/shm/NAME or mem-path=/dev/kvmfr0 in the domain's
<qemu:commandline>. There may be several tables, each about one file, by its `name`:

    [[shm]]
    name = "looking-glass"
    owner = "alice"

A table without `name` is about all of them. With a name that the domain does not have, and a
`size`, the file is made as well.

For kvmfr its module is loaded, if it is not loaded yet, in the size that the domain asks for. It
stays loaded. QEMU needs access to it: add "/dev/kvmfr0" to cgroup_device_acl in
/etc/libvirt/qemu.conf. With AppArmor, libvirt's profile allows the file of a <shmem>, but nothing
from <qemu:commandline>. Add a line "/dev/shm/NAME rw," or "/dev/kvmfr0 rw," to
/etc/apparmor.d/local/abstractions/libvirt-qemu for that.
"""

import re
from collections.abc import Iterator

from vfio_hooks.domain import Domain, apparmor, qemu_conf
from vfio_hooks.domain.devices import KVMFR, SharedMemory
from vfio_hooks.domain.files import LOCAL_PROFILE, QEMU_CONF
from vfio_hooks.errors import HookError, reason
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.accounts import account, group_id, primary_group, user_name
from vfio_hooks.host.memory import amount
from vfio_hooks.host.modules import is_known
from vfio_hooks.host.shared_memory import Access, Shared
from vfio_hooks.knobs.module import LOADED, Module
from vfio_hooks.knobs.shared_file import SharedFile, shown
from vfio_hooks.record import record
from vfio_hooks.sharing import Once, Override
from vfio_hooks.steps import Step

MULTIPLE = True
_FOLDER = "/dev/shm/"


@record
class Options:
    name: str | None = None
    """The name of the file in /dev/shm, or "kvmfr0". If it is not set, the table is about all such
    files of the domain."""
    size: int | None = None
    """The size in MiB. If it is not set, it is the size in the domain."""
    owner: str | None = None
    """The user who runs the program on the host, such as the Looking Glass client. If it is not
    set, it is the user that QEMU runs as."""
    group: str | None = None
    """The group of the file. If it is not set, it is QEMU's, so that QEMU can use the file whoever
    owns it."""
    mode: str = "0660"
    """The permissions, in octal."""

    def __post_init__(self) -> None:
        if self.name is not None and (
            "/" in self.name or self.name.startswith(".") or not 0 < len(self.name) < 256
        ):
            raise ValueError('name must be that of a file in /dev/shm, such as "looking-glass"')
        if self.size is not None and self.size <= 0:
            raise ValueError("size must be a number of MiB, such as 64")
        if not re.fullmatch(r"0?[0-7]{3}", self.mode):
            raise ValueError('mode must be three octal digits, such as "660", or "0660"')


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    qemu, gid = _qemu(host)
    owner = account(host, options.owner).uid if options.owner else qemu
    gid = gid if options.group is None else group_id(host, options.group)
    access = Access(owner, gid, int(options.mode, 8))
    for memory in _chosen(domain, options):
        if memory.path.startswith(KVMFR):
            yield from _kvmfr(host, memory, domain, access)
            continue
        found = _look(host, memory.path)
        if found is not None:
            _check(host, memory, found, {0, qemu, owner})
        is_made = found is None or found.is_made
        yield Step("shm", SharedFile(memory.path, memory.size), Override(shown(access, is_made)))


def notes(domain: Domain, options: Options, host: Host) -> Iterator[str]:
    """Settings that keep QEMU from its memory, and that this program does not change."""
    devices = qemu_conf.allowed(host) or ()
    rules = apparmor.rules(host)
    for memory in domain.shared:
        if not memory.arguments:
            continue
        if rules is not None and not apparmor.allow(rules, memory.path, "rw"):
            line = apparmor.rule(memory.path, "rw")
            yield f"AppArmor keeps QEMU from {memory.path}: add the line {line} to {LOCAL_PROFILE}"
        if memory.path.startswith(KVMFR) and memory.path not in devices:
            yield f"{memory.path} is not in cgroup_device_acl in {QEMU_CONF}"


def _chosen(domain: Domain, options: Options) -> list[SharedMemory]:
    if options.name is None:
        if not domain.shared:
            raise HookError(
                f"domain {domain.name} has no <shmem>",
                "give it one, or name a file with name and size in [[shm]]",
            )
        found = list(domain.shared)
    else:
        folder = "/dev/" if re.fullmatch(r"kvmfr\d+", options.name) else _FOLDER
        path = folder + options.name
        found = [memory for memory in domain.shared if memory.path == path]
        found = found[:1] or [SharedMemory(path, 0)]
    if options.size is not None:
        found = [SharedMemory(memory.path, options.size << 20) for memory in found]
    for memory in found:
        if not memory.size:
            raise HookError(
                f"domain {domain.name} does not say how large {memory.path} is",
                "set size in [[shm]]",
            )
        if not re.fullmatch(r"/dev/(shm/[^/.][^/]*|kvmfr\d+)", memory.path):
            raise HookError(f"{memory.path} is not a file in /dev/shm")
    return found


def _look(host: Host, path: str) -> Shared | None:
    try:
        return host.look(path)
    except OSError as error:
        raise HookError(f"{path}: cannot be looked at: {reason(error)}") from None


def _check(host: Host, memory: SharedMemory, found: Shared, trusted: set[int]) -> None:
    """Raise HookError for a file that another user may have prepared, and for one that QEMU would
    refuse."""
    if found.other:
        return  # The knob says what it is, and refuses it.
    if found.access.uid not in trusted:
        uid = found.access.uid
        user = user_name(host, uid) or uid
        raise HookError(
            f"{memory.path} belongs to another user ({user}, uid {uid}), who may have it "
            f"open and could read the shared memory",
            f'remove it; or say owner = "{user}" in [[shm]], if this user runs the program on '
            f"the host",
        )
    if 0 < found.size < memory.size:
        raise HookError(
            f"{memory.path} has {amount(found.size >> 10)}, but the domain wants "
            f"{amount(memory.size >> 10)}",
            "end the programs that use it, and remove it",
        )


def _kvmfr(host: Host, memory: SharedMemory, domain: Domain, access: Access) -> Iterator[Step]:
    awaits = ""
    if _look(host, memory.path) is None:
        if not is_known(host, "kvmfr"):
            raise HookError(
                f"{memory.path}: this kernel has no module kvmfr",
                "install it (Looking Glass has a DKMS package of it), or use a <shmem> device",
            )
        if host.exists("/sys/module/kvmfr"):
            raise HookError(
                f"{memory.path} does not exist, though kvmfr is loaded",
                "rmmod kvmfr; it is then loaded again with the size that the domain wants",
            )
        # All of the module's devices get their sizes when it is loaded, in their order.
        sizes = {one.path: one.size for one in domain.shared if one.path.startswith(KVMFR)}
        sizes[memory.path] = memory.size
        listed = ",".join(str(sizes[path] >> 20) for path in sorted(sizes))
        module = Module("kvmfr", options=(f"static_size_mb={listed}",))
        awaits = module.key
        yield Step("shm", module, Once(LOADED))
    knob = SharedFile(memory.path, device=True)
    yield Step("shm", knob, Override(shown(access, is_made=False)), awaits=awaits)


def _qemu(host: Host) -> tuple[int, int]:
    """The uid and gid that libvirt runs QEMU as: those in its configuration, or else those of the
    distribution's own user for QEMU."""
    user, group = (qemu_conf.text(host, key) for key in ("user", "group"))
    for name in [user] if user else ["libvirt-qemu", "qemu"]:
        try:
            gid = group_id(host, group) if group else primary_group(host, name)
            return account(host, name).uid, gid
        except HookError:
            continue
    return 0, 0
