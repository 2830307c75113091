"""What graphics cards need besides a driver: resets, power states, sizes of memory windows.

An empty table makes sure that the card comes back. A card that its driver does not take back when
the VM has ended, as with AMD cards whose reset does not work, is removed and the bus is rescanned.
The VM's other devices come back in any case. The keys set more for each of the VM's graphics cards;
all previous values are restored.

libvirt gives devices with managed='yes' back in the order of the XML. Put function 0 of a card
last, so that its other functions have their drivers by then.
"""

from collections.abc import Iterator
from typing import Literal

from vfio_hooks import PLANNED
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.host import pci as host_pci
from vfio_hooks.host.pci import DEVICES, Function, bar_sizes, is_for_guests, passed_displays
from vfio_hooks.knobs.bar_size import BarSize
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.pci_return import PciReturn
from vfio_hooks.record import field, record
from vfio_hooks.services import argv, pidfile
from vfio_hooks.services.service import service
from vfio_hooks.sharing import Exclusive, Override, Run
from vfio_hooks.steps import Step


@record
class Options:
    functions: tuple[str, ...] | None = None
    """The PCI functions that this table is about, such as ["0000:04:00.0"], out of those that the
    domain is given. If it is not set, these are all graphics cards."""
    rescan: bool = True
    """Whether a card that its driver does not take back is removed from the bus and found again by
    a rescan."""
    reset_method: str | None = None
    """Which resets the kernel may use, in the order in which it tries them, such as
    "device_specific bus". The file reset_method below /sys/bus/pci/devices/ADDRESS lists those that
    the card has."""
    d3cold: bool | None = None
    """Whether the card may lose its power while it is idle. Some cards do not wake up from that:
    set it to false for these."""
    power: Literal["on", "auto"] | None = None
    """The value of power/control while the guest runs: "on" keeps the card awake, "auto" lets it
    sleep. TLP sets it anew whenever the power source changes, unless RUNTIME_PM_DENYLIST in
    /etc/tlp.conf has the card, without the domain: "01:00.0"."""
    bar_sizes: dict[str, int] = field(default_factory=dict)
    """Sizes of resizable BARs in MiB, such as { 0 = 256 }, for guests that cannot use large ones.
    They hold as long as no driver of the host has the card."""
    timeout: float = 30.0
    """How many seconds a driver may take to let a card go or to take it back."""
    alive: float | None = None
    """Within how many seconds after the start the guest's driver has to take the card. Signs of
    that are bus mastering and MSI, which a driver switches on, interrupts of the card, an answer of
    the guest agent, and the command `vfio-hooks alive VM`. If there is no sign in time, the log
    says so, with what the logs show about the reason, and the user's session shows a notification.
    A VM that is paused, or that writes to its disks, gets more time. If a card is lost later, the
    log says that as well. Should the watch itself have died, `vfio-hooks status` says so."""
    alive_action: Literal["tell", "shutdown", "destroy"] = "tell"
    """What happens to a VM that shows no sign in time: "tell" only reports it, "shutdown" and
    "destroy" end the VM, so that the host gets its card and its desktop back. A VM that has shown a
    sign is never ended."""

    def __post_init__(self) -> None:
        if self.alive is not None and not 5 <= self.alive <= 3600:
            raise ValueError("alive must be a number of seconds from 5 to 3600, such as 90")
        if not all(bar in tuple("012345") for bar in self.bar_sizes):
            raise ValueError("bar_sizes are sizes of BARs 0 to 5, such as { 0 = 256 }")


def plan(event: Event, domain: Domain, options: Options, host: Host) -> Iterator[Step]:
    if event.op not in PLANNED:
        return
    if event.op == "started" and options.alive is not None:
        yield _watched(domain, options, options.alive, host)
    for function in _chosen(domain, options, host):
        match event.op:
            case "prepare":
                for bar, size in options.bar_sizes.items():
                    _check_size(host, function, int(bar), size)
                yield from _before(function, options)
            case "start":
                # libvirt has taken the card off the host's driver by now, and sets the owner of
                # its node only later.
                for bar, size in options.bar_sizes.items():
                    knob = BarSize(function.address, int(bar), options.timeout)
                    yield Step("gpu", knob, Override(str(size)), until="stopped")
            case _ if options.power is not None:
                # vfio-pci sets it to auto when it takes a function, and to on when it lets go.
                control = File(f"{DEVICES}/{function.address}/power/control")
                yield Step("gpu", control, Override(options.power), until="stopped")


def _watched(domain: Domain, options: Options, seconds: float, host: Host) -> Step:
    addresses = [function.address for function in _chosen(domain, options, host)]
    words = (pidfile(domain.name), f"{seconds:g}", options.alive_action, *addresses)
    knob = service(
        f"vfio-hooks-alive-{domain.uuid}",
        f"Watch whether VM {domain.name} uses its graphics card",
        argv("vfio_hooks.services.alive", *words),
        f"watches for {seconds:g} s whether the guest uses its card",
    )
    return Step("gpu", knob, Run(), until="stopped", required=False)


def _before(function: Function, options: Options) -> Iterator[Step]:
    folder = f"{DEVICES}/{function.address}"
    if options.rescan and function.driver and not is_for_guests(function.driver):
        yield Step("gpu", PciReturn(function.address, options.timeout), Exclusive())
    if options.d3cold is not None:
        value = str(int(options.d3cold))
        yield Step("gpu", File(f"{folder}/d3cold_allowed"), Override(value))
    if options.reset_method is not None:
        yield Step("gpu", File(f"{folder}/reset_method"), Override(options.reset_method))


def _check_size(host: Host, function: Function, bar: int, size: int) -> None:
    there = bar_sizes(host, function.address, bar)
    if size not in there:
        sizes = ", ".join(map(str, there))
        raise HookError(
            f"{function.address}: BAR {bar} cannot have {size} MiB",
            f"it can have {sizes}" if there else "its size is fixed; lspci -vv shows it",
        )


def _chosen(domain: Domain, options: Options, host: Host) -> list[Function]:
    if options.functions is None:
        found = passed_displays(host, domain)
        if not found:
            raise HookError(
                f"domain {domain.name} is given no graphics card of this host",
                "name its functions in [gpu], or remove the table from vm.toml",
            )
        return found
    given = {passed.address for passed in domain.pci}
    named = {address: host_pci.function(host, address) for address in options.functions}
    for address, function in named.items():
        if function is None or address not in given:
            raise HookError(
                f"{address}: the domain is not given such a device",
                "correct functions in [gpu]; addresses are written as 0000:04:00.0",
            )
    return [function for function in named.values() if function is not None]
