"""Mediated devices (vGPUs and the like): made before the VM starts, and removed after it.

    [[mdev]]
    type = "i915-GVTg_V5_4"

They are the devices of the domain's <hostdev mode='subsystem' type='mdev'>, with the UUIDs given
there. One that exists already is left alone, and stays. For devices of different types, write one
table for each, with `uuid`.

While the VM is off, its devices do not exist, so their parent has room for those of other VMs, or
of other types. If a device should exist from boot on, libvirt does that: `virsh nodedev-define`
with its XML, `virsh nodedev-start` and `virsh nodedev-autostart`; mdevctl(8) does the same. Use
these commands for devices that need attributes, too. Such devices exist when the VM starts, so this
table leaves them alone.

Graphics cards with SR-IOV have virtual functions in place of mediated devices: see [[sriov]].
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from re import fullmatch

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError, nearest
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host.mdev import DEVICES, PARENTS, Type, type_of, types
from vfio_hooks.knobs.mediated import Mediated
from vfio_hooks.record import record
from vfio_hooks.sharing import Exclusive
from vfio_hooks.steps import Step

MULTIPLE = True
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@record
class Options:
    type: str | None = None
    """The type of the device, such as "i915-GVTg_V5_4" or "nvidia-63". It may be left out if there
    is only one to choose from."""
    parent: str | None = None
    """The device that it is made of, as in /sys/class/mdev_bus: "0000:00:02.0". If it is not set,
    it is the first one that has the type and room for it."""
    uuid: str | None = None
    """The UUID of the only <hostdev> that the table is for. If it is not set, it is for all of the
    domain's."""

    def __post_init__(self) -> None:
        if self.uuid is not None and not fullmatch(_UUID, self.uuid.lower()):
            raise ValueError("uuid must be like 4b20d080-1b54-4048-85b3-a6a62d165c01")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op != "prepare":
        return
    taken = Counter[str]()
    for uuid in _wanted(domain, options):
        if there := type_of(host, uuid):
            _check(uuid, there, options, host)
            continue
        chosen = _chosen(uuid, options, host, taken, domain.mdevs)
        taken[chosen.parent] += 1
        yield Step("mdev", Mediated(uuid, chosen.parent), Exclusive(chosen.type))


def notes(domain: Domain, options: Options, host: Host) -> Iterator[str]:
    """Which devices the plan leaves out, because they exist already."""
    for uuid in _wanted(domain, options):
        if there := type_of(host, uuid):
            yield f"{uuid} exists already ({there}), so it is left alone, and stays"


def _wanted(domain: Domain, options: Options) -> list[str]:
    """The UUIDs that the table is for."""
    if options.uuid is None:
        if not domain.mdevs:
            raise HookError(
                f"domain {domain.name} is given no mediated device",
                "add a <hostdev mode='subsystem' type='mdev' model='vfio-pci'> with a UUID that "
                "uuidgen prints, or remove [[mdev]] from vm.toml",
            )
        return list(dict.fromkeys(domain.mdevs))
    if (uuid := options.uuid.lower()) not in domain.mdevs:
        raise HookError(
            f"domain {domain.name} has no <hostdev> of type mdev with the UUID {uuid}",
            nearest(uuid, domain.mdevs),
        )
    return [uuid]


def _check(uuid: str, there: str, options: Options, host: Host) -> None:
    if options.type in (None, there):
        return
    if host.exists(f"{DEVICES}/{uuid}"):
        raise HookError(
            f"{uuid} exists already, and is {there} and not {options.type}",
            "correct type in [[mdev]], or remove the device: `virsh nodedev-list --cap mdev` shows "
            "the name that virsh nodedev-destroy takes",
        )
    raise HookError(
        f"{uuid} is to be {there} in one table and {options.type} in another",
        "set uuid in each [[mdev]], to different devices",
    )


def _chosen(
    uuid: str, options: Options, host: Host, taken: Counter[str], own: Sequence[str]
) -> Type:
    """The type and parent of a device. `taken` says how many devices this table has planned for
    each parent; those of earlier tables show on the host. `own` are the UUIDs of all the domain's
    devices."""
    fitting = _fitting(uuid, options, types(host))
    having_room = [one for one in fitting if one.free > taken[one.parent]]
    if not having_room:
        raise HookError(
            f"{uuid}: there is no room for another {', '.join(map(str, fitting))}",
            "shut a VM down that has one; `mdevctl list` shows those that there are",
        )

    def is_sure(one: Type) -> bool:
        # Only the driver knows whether a device of another type takes room as well.
        kinds = (type_of(host, other, one.parent) for other in own)
        others = sum(kind not in (None, one.type) for kind in kinds)
        return one.free > taken[one.parent] + others

    return next(filter(is_sure, having_room), having_room[0])


def _fitting(uuid: str, options: Options, offered: Sequence[Type]) -> list[Type]:
    """The types of the host's that the table can mean: one type, of one parent or of several."""
    if not offered:
        raise HookError(
            f"{uuid}: no device of this host offers mediated devices now; {PARENTS} is empty",
            "load its driver: kvmgt for Intel's GVT-g, NVIDIA's vGPU driver for the host",
        )
    parent, kind = options.parent, options.type
    parents = {one.parent for one in offered}
    if parent is not None and parent not in parents:
        raise HookError(f"{parent} offers no mediated devices", nearest(parent, parents))
    of_parent = [one for one in offered if parent in (None, one.parent)]
    kinds = {one.type: f"{one.type} ({one.name})" for one in of_parent}
    if kind is not None and kind not in kinds:
        of = parent or "any device of this host"
        raise HookError(f"{kind} is no type of {of}", nearest(kind, kinds))
    if kind is None and len(kinds) > 1:
        raise HookError(
            f"{uuid}: there are several types to choose from: {', '.join(kinds.values())}",
            "name one with type in [[mdev]]; `mdevctl types` describes them",
        )
    return [one for one in of_parent if kind in (None, one.type)]
