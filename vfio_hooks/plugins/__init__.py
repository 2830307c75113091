"""The plugins: one kernel or desktop facility each, as a module with `Options` and `plan`.

A plugin reads the host, the domain and its options, and yields steps. It changes nothing and
keeps nothing. A VM's own modules (qemu.d/<VM>/*.py) have the same two names.
"""

from collections.abc import Iterable
from importlib import import_module
from typing import Any, Protocol, cast

from vfio_hooks.domain import Domain
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.steps import Step

BUILT_IN = (
    "inhibit",
    "service",
    "display",
    "session",
    "sriov",
    "gpu",
    "mdev",
    "usb",
    "pci",
    "shm",
    "hugepages",
    # Before all that sets what tuned sets with a power profile.
    "governor",
    "memory",
    "cpus",
    "irqs",
    "write",
    "verify",
    "process",
)
"""In the order in which they act; undo runs in reverse."""


class Plugin(Protocol):
    """What a plugin module has to offer."""

    @property
    def Options(self) -> type[Any]:
        """The keys of the plugin's table and their defaults, as a record or frozen dataclass."""

    def plan(self, event: Event, domain: Domain, options: Any, host: Host) -> Iterable[Step]:
        """The steps of one event (prepare, start or started), in their order. Raises HookError if
        something cannot work, before anything is changed."""


def load(name: str) -> Plugin:
    """The built-in plugin of a facility, imported only now."""
    return cast(Plugin, import_module(f"vfio_hooks.plugins.{name}"))
