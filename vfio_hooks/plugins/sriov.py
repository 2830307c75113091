"""Virtual functions (VFs) of network and graphics cards: made, and set up, while the VM runs.

There may be several tables, one for each VF or each card:

    [[sriov]]
    pf = "enp7s0f1"
    vf = 1
    vlan = 69

Without `vf` a table is about every VF that the domain is given, as <hostdev>, as <interface
type='hostdev'> or from a libvirt network that is a pool of VFs; with `pf`, only about those of this
card. VFs that the domain names and that do not exist yet are made before it starts. All VFs are
removed again when no VM has any. While a VF of the card is in use, the number of its VFs cannot
change: the start, or the removal, then fails and says who uses it. The VFs that stay keep their
settings. A pool has the VFs that existed when libvirt started the network.

Each setting of a VF gets its former value back after the VM. libvirt itself sets some values of an
<interface> (its MAC address, and no VLAN if it names none), and chooses a pool's VF only when the
VM starts. So these VFs are set up after libvirt has done its part, at libvirt's event "start", and
restored before it, at "stopped".

Graphics cards with SR-IOV are named by their PCI address, and their VFs have no network settings:

    [[sriov]]
    pf = "0000:00:02.0"
    numvfs = 2

The domain has such a VF as a <hostdev>. NVIDIA's driver for hosts makes its VFs only by its own
`sriov-manage -e`. Which vGPU one of these is can be set by [[write]], in the VF's file
nvidia/current_vgpu_type.

With AppArmor, libvirt's profile does not let QEMU use a pool's VF. A line "/dev/vfio/[0-9]* rw," in
/etc/apparmor.d/local/abstractions/libvirt-qemu allows it.
"""

import re
from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host import sriov as host_sriov
from vfio_hooks.host.network import is_vf_pool
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.host.sriov import Vf
from vfio_hooks.knobs import vf_setting as attributes
from vfio_hooks.knobs.vf_count import VfCount
from vfio_hooks.knobs.vf_setting import VfSetting
from vfio_hooks.record import record
from vfio_hooks.sharing import AtLeast, Exclusive
from vfio_hooks.steps import Step

MULTIPLE = True


@record
class Options:
    pf: str | None = None
    """The card, by its network interface or its PCI address ("0000:07:00.1")."""
    vf: int | None = None
    """The number of a VF of this card, counted from 0. It needs `pf`."""
    numvfs: int | None = None
    """How many VFs the card must have at least. If it is not set, it gets as many as the table and
    the domain need."""
    vlan: int | None = None
    """The VLAN that the card puts the VF's packets into, or 0 for none. The guest does not see
    it."""
    qos: int | None = None
    """The priority of the VLAN's packets, 0 to 7."""
    proto: Literal["802.1Q", "802.1ad"] = "802.1Q"
    """The protocol of the VLAN."""
    mac: str | None = None
    """The MAC address of the VF."""
    trust: bool | None = None
    """Whether the guest may change its MAC address and see packets for others, if the driver allows
    this to trusted VFs."""
    spoofchk: bool | None = None
    """Whether the card drops packets that the guest sends from addresses other than its own."""
    max_tx_rate: int | None = None
    """The most that the guest may send, in Mbit/s, or 0 for no limit. Most drivers need the card's
    link to be up for this."""
    min_tx_rate: int | None = None
    """What the guest can always send, in Mbit/s, or 0 for no guarantee. Most drivers need the
    card's link to be up for this."""
    state: Literal["auto", "enable", "disable"] | None = None
    """The link that the VF sees: "auto" is the card's own, "enable" is always up, which also lets
    VFs talk to each other, and "disable" is always down."""

    def __post_init__(self) -> None:
        for name, last in (("vf", 65535), ("numvfs", 65535), ("vlan", 4094), ("qos", 7)):
            number = getattr(self, name)
            if number is not None and not 0 <= number <= last:
                raise ValueError(f"{name} must be a number from 0 to {last}")
        for name in ("max_tx_rate", "min_tx_rate"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name} must be a number of Mbit/s, or 0 for no limit")
        if self.vf is not None and self.pf is None:
            raise ValueError('vf needs pf, the card of the VF, such as pf = "enp7s0f1"')
        if self.qos and not self.vlan:
            raise ValueError("qos needs a vlan")
        if self.mac is not None and not re.fullmatch(r"[\da-fA-F]{2}(:[\da-fA-F]{2}){5}", self.mac):
            raise ValueError('mac must be a MAC address, such as "52:54:00:12:34:56"')


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op not in ("prepare", "start"):
        return
    pf = _pf(host, options.pf)
    # In the domain, by how libvirt treats them; an explicit VF need not be in it at all.
    lent = _of_domain(domain, host, pf, options, interfaces=True)
    plain = _of_domain(domain, host, pf, options, interfaces=False)
    if event.op == "start":
        yield from _settings(host, lent, options, lent=True)
        return
    if pf is not None and options.vf is not None and not lent:
        plain = [Vf(pf, options.vf)]
    is_pools = any(is_vf_pool(host, name) for name in domain.networks)
    if not (lent or plain or is_pools or (pf and options.numvfs is not None)):
        of = f"of {options.pf}" if options.pf else "of a card"
        raise HookError(
            f"domain {domain.name} is given no virtual function {of}",
            "choose one with pf and vf in [[sriov]]",
        )
    yield from _counts(host, domain, pf, [*lent, *plain], options)
    yield from _settings(host, plain, options, lent=False)


def notes(domain: Domain, options: Options, host: Host) -> Iterator[str]:
    """What a plan cannot show before the VM starts."""
    pools = [name for name in domain.networks if is_vf_pool(host, name)]
    if pools and options.vf is None:
        yield (
            f"libvirt chooses the VF from network {', '.join(pools)} when the VM starts; "
            f"its settings are made then, at the event start"
        )


def _pf(host: Host, name: str | None) -> str | None:
    if name is None:
        return None
    found = host_sriov.find_pf(host, name)
    if found is None:
        raise HookError(
            f"{name} is not a card with virtual functions on this host",
            "ls -d /sys/bus/pci/devices/*/sriov_numvfs lists such cards; some need SR-IOV to be "
            "switched on in the firmware",
        )
    return found


def _of_domain(
    domain: Domain, host: Host, pf: str | None, options: Options, interfaces: bool
) -> list[Vf]:
    """The domain's VFs that the table is for: those of its interfaces, or all others."""
    found = (
        host_sriov.vf_at(host, function.address)
        for function in domain.pci
        if (function.origin == "interface") == interfaces
    )
    return [vf for vf in found if vf and pf in (None, vf.pf) and options.vf in (None, vf.number)]


def _counts(
    host: Host, domain: Domain, pf: str | None, chosen: list[Vf], options: Options
) -> Iterator[Step]:
    """A step for each card, which makes at least as many VFs as the table and the domain need."""
    named = [vf for one in domain.pci if (vf := host_sriov.vf_at(host, one.address))]
    for card in dict.fromkeys(([pf] if pf else []) + [vf.pf for vf in chosen]):
        needed = max((vf.number + 1 for vf in (*named, *chosen) if vf.pf == card), default=0)
        there = len(host_sriov.vfs(host, card))
        wanted = max(there, needed, options.numvfs or 0)
        total = int(host.maybe(f"{DEVICES}/{card}/sriov_totalvfs") or 0)
        if wanted > total:
            raise HookError(f"{card} can have at most {total} VFs, not {wanted}")
        if options.numvfs is not None and needed > options.numvfs:
            raise HookError(
                f"VF {needed - 1} of {card} is asked for, but numvfs = {options.numvfs}",
                f"set numvfs to {needed} or more, or leave it out",
            )
        if wanted > there and (in_use := next(host_sriov.users(host, card), None)):
            raise HookError(
                f"{card} has {there} VFs and {wanted} are needed, but the number cannot "
                f"change while they are in use: {in_use}",
                "shut that VM down, or give the card enough VFs from the start",
            )
        if wanted:
            yield Step("sriov", VfCount(card), AtLeast(wanted))


def _settings(host: Host, vfs: list[Vf], options: Options, lent: bool) -> Iterator[Step]:
    if options.mac is not None and len(vfs) > 1:
        raise HookError(
            f"mac is set for {len(vfs)} virtual functions: {', '.join(map(str, vfs))}",
            "write a table with pf and vf for each",
        )
    for vf in vfs:
        for attribute, value in _values(host, vf, options):
            knob = VfSetting(vf.pf, vf.number, attribute, lent)
            share, awaits = Exclusive(value), VfCount(vf.pf).key
            yield Step("sriov", knob, share, "stopped" if lent else "release", awaits=awaits)


def _values(host: Host, vf: Vf, options: Options) -> Iterator[tuple[str, str]]:
    if options.mac is not None:
        yield attributes.MAC, options.mac.lower()
    if options.vlan is not None:
        yield (
            attributes.VLAN,
            attributes.vlan_text(options.vlan, options.qos or 0, options.proto),
        )
    for attribute, on in (
        (attributes.TRUST, options.trust),
        (attributes.SPOOFCHK, options.spoofchk),
    ):
        if on is not None:
            yield attribute, "on" if on else "off"
    if options.max_tx_rate is not None or options.min_tx_rate is not None:
        yield attributes.RATE, _rate(host, vf, options)
    if options.state is not None:
        yield attributes.STATE, options.state


def _rate(host: Host, vf: Vf, options: Options) -> str:
    """The limits as one value: those that are set, and the other one as it is now."""
    try:
        now = attributes.rates(VfSetting(vf.pf, vf.number, attributes.RATE).read(host))
    except Gone:
        now = (0, 0)
    given = (options.max_tx_rate, options.min_tx_rate)
    most, least = (old if new is None else new for old, new in zip(now, given, strict=True))
    if most and least > most:
        raise HookError(f"{vf}: min_tx_rate {least} is more than max_tx_rate {most}")
    return attributes.rate_text(most, least)
