"""The two TOML files of a VM, as typed options: its own vm.toml over the host-wide defaults."""

from dataclasses import dataclass
from typing import Any

from vfio_hooks.plugins import Plugin

FOLDER = "/etc/libvirt/hooks"


@dataclass(frozen=True)
class Table:
    """One table of vm.toml: a facility in use, and its validated options."""

    name: str
    plugin: Plugin
    options: Any


@dataclass(frozen=True)
class Config:
    """All that a VM's owner asked for, the tables in the order in which the plugins act.

    `dry_run`: events only log their plan. `strict_started`: a failure at `started` is told to
    libvirt, which then kills the guest that is already running.
    """

    tables: tuple[Table, ...] = ()
    dry_run: bool = False
    strict_started: bool = False
