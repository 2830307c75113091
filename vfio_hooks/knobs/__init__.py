"""The things of a host that have a value which vfio-hooks may change.

Each knob knows how the kernel (or systemd, or iproute2) wants its value written, how it shows
it again, and every quirk between the two. Values are canonical text, the same for everyone who
reads them: a CPU set is a list "0-3,8" whatever the file's own notation. Knobs are the closed
set that a journal may name, so undo needs nothing but this package and the standard library.
"""

from vfio_hooks.knobs.allowed_cpus import AllowedCpus
from vfio_hooks.knobs.announced import Announced
from vfio_hooks.knobs.bar_size import BarSize
from vfio_hooks.knobs.base import Knob
from vfio_hooks.knobs.command import Command
from vfio_hooks.knobs.console import Console
from vfio_hooks.knobs.controller import Controller
from vfio_hooks.knobs.display_layout import DisplayLayout
from vfio_hooks.knobs.energy import EnergyPreference
from vfio_hooks.knobs.file import CpuMask, File
from vfio_hooks.knobs.freed import Freed
from vfio_hooks.knobs.frequency import Frequency
from vfio_hooks.knobs.governor import Governor
from vfio_hooks.knobs.group_cpus import GroupCpus
from vfio_hooks.knobs.host_tasks import HostTasks
from vfio_hooks.knobs.irq import IrqAffinity
from vfio_hooks.knobs.irqbalance import IrqBalance
from vfio_hooks.knobs.lent_power import LentPower
from vfio_hooks.knobs.module import Module
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

KNOBS: dict[str, type[Knob]] = {
    knob.kind: knob
    for knob in (
        File,
        CpuMask,
        IrqAffinity,
        Pages,
        Module,
        PciDriver,
        Command,
        EnergyPreference,
        Frequency,
        Governor,
        Trigger,
        Watchdog,
        AllowedCpus,
        Controller,
        GroupCpus,
        HostTasks,
        Partition,
        ThreadAffinity,
        IrqBalance,
        SharedFile,
        UsbDriver,
        VfCount,
        VfSetting,
        DisplayLayout,
        Unit,
        Console,
        PciReturn,
        BarSize,
        PlatformDriver,
        Freed,
        Transient,
        Announced,
        LentPower,
    )
}

__all__ = [
    "KNOBS",
    "AllowedCpus",
    "Announced",
    "BarSize",
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
]
