"""PCI functions of the domain: the VM has them while it runs, then their own drivers again.

libvirt binds a function with managed='yes' to vfio-pci. Afterwards it gives the function to
whatever driver matches, or to none if that driver's module is not loaded. This table makes sure
that it is the driver from before. With managed='no' it also binds the function to vfio-pci,
unless its own driver shows it to VFIO, as NVIDIA's does with the VFs that are its vGPUs.

Once a VM with managed='no' has had a function, libvirt (seen with 11.3) leaves it with vfio-pci at
the end of later VMs as well, even if they have managed='yes'. That lasts until libvirt is restarted
or told by virsh nodedev-reattach. With this table, the function gets its driver back all the same.

A graphics card that vfio-pci has had since boot may still show the firmware's picture (efifb,
simpledrm, or BOOTFB in /proc/iomem). QEMU cannot use its memory then, so the picture is removed
first.

A card with SR-IOV loses its virtual functions together with its driver. It is given to the VM only
if nobody uses one of them. Afterwards it has as many again, with their MAC addresses, VLANs and
other settings.
"""

from collections.abc import Iterator
from typing import Literal

from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.host import pci as host_pci
from vfio_hooks.host.console import is_console
from vfio_hooks.host.framebuffer import firmware_framebuffers, users_of_memory
from vfio_hooks.host.in_use import holders, told
from vfio_hooks.host.losses import losses
from vfio_hooks.host.modules import is_known, is_loaded
from vfio_hooks.host.network import is_vf_pool
from vfio_hooks.host.pci import Function, is_for_guests
from vfio_hooks.host.sriov import vf_at
from vfio_hooks.host.udev import announced_cards
from vfio_hooks.knobs.announced import WITHDRAWN, Announced
from vfio_hooks.knobs.base import NO_DRIVER
from vfio_hooks.knobs.boot_picture import BootPicture
from vfio_hooks.knobs.lent_power import LentPower
from vfio_hooks.knobs.module import LOADED, Module
from vfio_hooks.knobs.pci_driver import Binding, PciDriver
from vfio_hooks.knobs.platform_driver import PlatformDriver
from vfio_hooks.knobs.vf_count import VfCount
from vfio_hooks.plugins.pci import familiar, lent_pf
from vfio_hooks.record import field, record
from vfio_hooks.sharing import Exclusive, Once, Override
from vfio_hooks.steps import Step

_NOT_FOR_GUESTS = "{!r} cannot keep a device for a guest; vfio-pci can, or a variant of it"
_SAID = "<hostdev> in the VM's XML names the devices: virt-manager, Add Hardware, PCI Host Device"
INSTEAD = dict.fromkeys(("devices", "device", "addresses", "address", "ids"), _SAID)


@record
class Options:
    group: Literal["error", "bind"] = "error"
    """What happens to functions that the host uses and that share an IOMMU group with a passed one:
    "error", or "bind" to take them from the host while the VM runs."""
    in_use: Literal["wait", "take"] = "wait"
    """What happens to a passed function that the host uses. With "wait" it is an error if the host
    would lose a mounted file system or its network, and programs that have the function open get
    time to close it. With "take" it is taken from them."""
    driver: str = "vfio-pci"
    """The driver that functions with managed='no' are bound to."""
    timeout: float = 30.0
    """How many seconds programs may take to close a function, and a driver to let it go or to take
    it."""
    expected: dict[str, str] = field(default_factory=dict)
    """What is at each address: vendor and device, vendor and device of the board, and a serial
    number if the kernel knows one, such as { "0000:04:00.0" = "1002:73bf 1da2:e438" }. If there is
    anything else at the address, the VM does not start. Addresses that are left out are noted at
    the first start, in /var/lib/vfio-hooks/devices."""

    def __post_init__(self) -> None:
        if not is_for_guests(self.driver):
            raise ValueError(f"driver: {_NOT_FOR_GUESTS.format(self.driver)}")
        if self.timeout < 0:
            raise ValueError("timeout must be 0 or more")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    # A VF of a pool is only known at the event start. libvirt has taken it then, and gives it back.
    if event.op != "prepare":
        return
    familiar.check(domain, options.expected, host)
    makers = {
        wanted.address: VfCount(vf.pf).key
        for wanted in domain.pci
        if not host.exists(f"{host_pci.DEVICES}/{wanted.address}")
        and (vf := vf_at(host, wanted.address))
    }
    passed = {
        wanted.address: _existing(host, wanted.address)
        for wanted in domain.pci
        if wanted.address not in makers
    }
    # A graphics card goes first and comes back last: its other functions are ready by then.
    passed = dict(sorted(passed.items(), key=lambda item: not item[1].is_display))
    others = _in_the_way(host, passed, options)
    # in_use = "take" binds a function here, with a deadline, even with managed='yes': libvirt would
    # wait for the users without one, inside the kernel, and could not touch any device meanwhile.
    to_bind = {
        wanted.address: wanted.driver or options.driver
        for wanted in domain.pci
        if (not wanted.managed or (options.in_use == "take" and wanted.address in passed))
        and not host_pci.is_shown_to_vfio(host, wanted.address)
    }
    for taken in (*passed.values(), *others):
        if options.in_use == "wait" and not is_for_guests(taken.driver):
            _check_losses(host, taken.address)
    to_bind |= {other.address: options.driver for other in others}
    for driver in sorted(set(to_bind.values())):
        yield from _loaded(host, driver)
    for taken in (*passed.values(), *others):
        yield from lent_pf.steps(taken, domain, host)
        yield from _picture(host, taken, options.timeout)
        yield from _before(host, taken)
    for address in (*passed, *makers, *(other.address for other in others)):
        bound = to_bind.get(address)
        value = str(Binding(bound, override=bound)) if bound else None
        knob = PciDriver(address, options.timeout, wait=options.in_use == "wait")
        yield Step("pci", knob, Exclusive(value), awaits=makers.get(address, ""))


def _before(host: Host, function: Function) -> Iterator[Step]:
    """Steps before a function is taken: its power setting is noted, and its sound card announced as
    gone."""
    control = f"{host_pci.DEVICES}/{function.address}/power/control"
    if host.maybe(control) == "auto" and not is_for_guests(function.driver):
        yield Step("pci", LentPower(control), Exclusive())
    for card in announced_cards(host, function.address, "sound"):
        yield Step("pci", Announced(card), Override(WITHDRAWN))


def _picture(host: Host, function: Function, seconds: float) -> Iterator[Step]:
    """Steps that remove the firmware's picture from a card from which no driver of the host has
    removed it: usually one that vfio-pci has had since boot, or one without a driver."""
    if not function.is_display or not (function.driver is None or is_for_guests(function.driver)):
        return
    for device in firmware_framebuffers(host, function.address):
        yield Step("pci", PlatformDriver(device, seconds), Override(NO_DRIVER))
    if function.driver and users_of_memory(host, function.address):
        yield Step("pci", BootPicture(function.address, seconds), Once("none"))


def notes(domain: Domain, options: Options, host: Host) -> Iterator[str]:
    """What the steps do not show: what the devices are, which programs the start would wait for,
    that the host loses its screen, and that the VM is given no device."""
    from vfio_hooks.plugins.pci.given import told as told_of_given

    yield from told_of_given(domain, host)
    for passed in domain.pci:
        driver = host.link(f"{host_pci.DEVICES}/{passed.address}/driver")
        waits = options.in_use == "wait" and not is_for_guests(driver)
        if waits and (users := holders(host, passed.address)):
            yield (
                f"{passed.address} is in use now, and the start would wait for up to "
                f"{options.timeout:g} s: {told(users)}"
            )
        if is_console(host, passed.address) and is_for_guests(driver):
            yield (
                f"{passed.address} is the boot display, which shows the firmware's picture, "
                f"with the text console, until the VM starts; after that the host has no screen"
            )
        elif is_console(host, passed.address):
            yield (
                f"{passed.address} is the boot display, with the text console on it, so the "
                f"host has no screen until the VM ends; [session] removes desktop and console "
                f"from it first"
            )
    if not domain.pci and not any(is_vf_pool(host, name) for name in domain.networks):
        yield (
            f"{domain.name} is given no PCI device; "
            "add one: virt-manager, Add Hardware, PCI Host Device"
        )


def after_start(domain: Domain, options: Options, host: WritableHost) -> None:
    """Note the devices, when all of a start's changes are made. Raises OSError."""
    familiar.note(domain, options.expected, host)


def doubts(domain: Domain, options: Options, host: Host) -> Iterator[HookError]:
    """What the kernel refuses when QEMU starts, unless it has been patched for that."""
    for passed in domain.pci:
        if error := host_pci.direct_mapping(host, passed.address):
            yield error


def _existing(host: Host, address: str) -> Function:
    found = host_pci.function(host, address)
    if found is None:
        raise HookError(
            f"{address}: the domain is given this device, but this host does not have it",
            "lspci -D lists the devices; addresses change when cards or firmware settings change",
        )
    if found.group is None:
        raise HookError(
            f"{address}: the device is in no IOMMU group",
            "switch the IOMMU on in the firmware, and boot with intel_iommu=on on an Intel CPU",
        )
    return found


def _check_losses(host: Host, address: str) -> None:
    lost = losses(host, address)
    if lost:
        raise HookError(
            f"{address}: the host would lose what it needs: {', '.join(lost)}",
            "move that elsewhere first",
        )


def _in_the_way(host: Host, passed: dict[str, Function], options: Options) -> list[Function]:
    """The functions that make a passed one's group unusable. Raises HookError unless they are to
    be bound as well."""
    groups = sorted({str(function.group) for function in passed.values()}, key=int)
    found = []
    for group in groups:
        in_use = [
            member
            for member in host_pci.group_members(host, group)
            if member.address not in passed and member.is_hosts
        ]
        if in_use and options.group == "error":
            raise HookError(
                f"IOMMU group {group} cannot be passed through while the host uses "
                f"{', '.join(map(str, in_use))}",
                'add them to the domain as <hostdev>, or set group = "bind" in [pci]',
            )
        found += in_use
    return found


def _loaded(host: Host, driver: str) -> Iterator[Step]:
    if not is_for_guests(driver):
        raise HookError(f"driver {_NOT_FOR_GUESTS.format(driver)}", "correct <driver> in the XML")
    if host.exists(f"{host_pci.DRIVERS}/{driver}"):
        return
    if is_loaded(host, driver) or not is_known(host, driver):
        raise HookError(
            f"{driver!r} is not a PCI driver of this kernel",
            "VFIO's own driver is vfio-pci; a variant has the name of its module",
        )
    yield Step("pci", Module(driver), Once(LOADED))
