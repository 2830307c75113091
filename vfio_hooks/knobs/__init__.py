"""The things of a host that have a value which vfio-hooks may change.

Each knob knows how the kernel (or systemd, or iproute2) wants its value written, how it shows
it again, and every quirk between the two. Values are canonical text, the same for everyone who
reads them: a CPU set is a list "0-3,8" whatever the file's own notation. Knobs are the closed
set that a journal may name, so undo needs nothing but this package and the standard library.

Every event of a managed VM comes through here, and needs a few of them: each is imported when it
is asked for.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from vfio_hooks.knobs.base import Knob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.knobs.allowed_cpus import AllowedCpus
    from vfio_hooks.knobs.announced import Announced
    from vfio_hooks.knobs.bar_size import BarSize
    from vfio_hooks.knobs.boot_picture import BootPicture
    from vfio_hooks.knobs.command import Command
    from vfio_hooks.knobs.console import Console
    from vfio_hooks.knobs.controller import Controller
    from vfio_hooks.knobs.display_layout import DisplayLayout
    from vfio_hooks.knobs.energy import EnergyPreference
    from vfio_hooks.knobs.file import CpuMask, File
    from vfio_hooks.knobs.frequency import Frequency
    from vfio_hooks.knobs.governor import Governor
    from vfio_hooks.knobs.group_cpus import GroupCpus
    from vfio_hooks.knobs.host_tasks import HostTasks
    from vfio_hooks.knobs.irq import IrqAffinity, IrqDefault
    from vfio_hooks.knobs.irqbalance import IrqBalance
    from vfio_hooks.knobs.lent_power import LentPower
    from vfio_hooks.knobs.module import Module
    from vfio_hooks.knobs.not_in_use import Freed
    from vfio_hooks.knobs.pages import Pages
    from vfio_hooks.knobs.partition import Partition
    from vfio_hooks.knobs.pci_driver import PciDriver
    from vfio_hooks.knobs.pci_return import PciReturn
    from vfio_hooks.knobs.platform_driver import PlatformDriver
    from vfio_hooks.knobs.shared_file import SharedFile
    from vfio_hooks.knobs.thread import ThreadAffinity
    from vfio_hooks.knobs.transient import Transient
    from vfio_hooks.knobs.trigger import Trigger
    from vfio_hooks.knobs.unit import Unit
    from vfio_hooks.knobs.usb_driver import UsbDriver
    from vfio_hooks.knobs.vf_count import VfCount
    from vfio_hooks.knobs.vf_setting import VfSetting
    from vfio_hooks.knobs.watchdog import Watchdog

KINDS = {
    "file": "file.File",
    "cpus": "file.CpuMask",
    "irq": "irq.IrqAffinity",
    "irq-default": "irq.IrqDefault",
    "pages": "pages.Pages",
    "module": "module.Module",
    "pci-driver": "pci_driver.PciDriver",
    "command": "command.Command",
    "epp": "energy.EnergyPreference",
    "frequency": "frequency.Frequency",
    "governor": "governor.Governor",
    "trigger": "trigger.Trigger",
    "watchdog": "watchdog.Watchdog",
    "allowed-cpus": "allowed_cpus.AllowedCpus",
    "controller": "controller.Controller",
    "group-cpus": "group_cpus.GroupCpus",
    "host-tasks": "host_tasks.HostTasks",
    "partition": "partition.Partition",
    "thread": "thread.ThreadAffinity",
    "irqbalance": "irqbalance.IrqBalance",
    "shared-file": "shared_file.SharedFile",
    "usb-driver": "usb_driver.UsbDriver",
    "vf-count": "vf_count.VfCount",
    "vf-setting": "vf_setting.VfSetting",
    "display-layout": "display_layout.DisplayLayout",
    "unit": "unit.Unit",
    "console": "console.Console",
    "pci-return": "pci_return.PciReturn",
    "bar-size": "bar_size.BarSize",
    "platform-driver": "platform_driver.PlatformDriver",
    "freed": "not_in_use.Freed",
    "transient-unit": "transient.Transient",
    "announced": "announced.Announced",
    "lent-power": "lent_power.LentPower",
    "boot-picture": "boot_picture.BootPicture",
}
"""The module and the class of each kind that a journal may name."""


@cache
def knob_class(kind: str) -> type[Knob]:
    """The class of a kind. Raises KeyError for one that this version does not know."""
    module, _, name = KINDS[kind].partition(".")
    found: type[Knob] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


if not TYPE_CHECKING:

    def __getattr__(name: str) -> type[Knob]:
        for kind, place in KINDS.items():
            if place.endswith(f".{name}"):
                return knob_class(kind)
        raise AttributeError(f"module {__name__} has no attribute {name}")


__all__ = [
    "KINDS",
    "AllowedCpus",
    "Announced",
    "BarSize",
    "BootPicture",
    "Command",
    "Console",
    "Controller",
    "CpuMask",
    "DisplayLayout",
    "EnergyPreference",
    "File",
    "Freed",
    "Frequency",
    "Governor",
    "GroupCpus",
    "HostTasks",
    "IrqAffinity",
    "IrqBalance",
    "IrqDefault",
    "Knob",
    "LentPower",
    "Module",
    "Pages",
    "Partition",
    "PciDriver",
    "PciReturn",
    "PlatformDriver",
    "SharedFile",
    "ThreadAffinity",
    "Transient",
    "Trigger",
    "Unit",
    "UsbDriver",
    "VfCount",
    "VfSetting",
    "Watchdog",
    "knob_class",
]
