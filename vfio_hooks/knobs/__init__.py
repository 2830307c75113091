"""The things of a host that have a value which vfio-hooks may change.

Each knob knows how the kernel (or systemd, or iproute2) wants its value written, how it shows the
value again, and every quirk between the two. Values are canonical text: a CPU set is always a list
"0-3,8", whatever the file's own notation is. A journal can only name these knobs, so an undo needs
nothing but this package and the standard library.

Every event of a managed VM comes through here, and needs only a few knobs: each is imported when it
is asked for.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from vfio_hooks.knobs.base import Knob

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    "mdev": "mediated.Mediated",
}
"""The module and the class of each kind that a journal may name."""


@cache
def knob_class(kind: str) -> type[Knob]:
    """The class of a kind. Raises KeyError for one that this version does not know."""
    module, _, name = KINDS[kind].partition(".")
    found: type[Knob] = getattr(import_module(f"{__name__}.{module}"), name)
    return found


def __getattr__(name: str) -> Any:
    """The class of this name, for people's own modules: `from vfio_hooks.knobs import File`."""
    for kind, place in KINDS.items():
        if place.endswith(f".{name}"):
            return knob_class(kind)
    raise AttributeError(f"module {__name__} has no attribute {name}")


__all__ = ["KINDS", "Knob", "knob_class"]
