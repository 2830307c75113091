"""Notes of the later events in which a VM has nothing to do, made at `prepare`.

They are for the first half of the hook, hooks/qemu, which ends such an event without starting
Python. Each is an empty file, idle/<VM>/<operation> in the state folder. Next to them are files
with the modification times of everything that the notes depend on. If one of these times is no
longer right, the notes do not count. They do not cover the VM's executables: the hook looks for
these itself.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

from vfio_hooks import HOST_FILE, PLANNED, VM_FILE, VM_FOLDERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    # What handles events imports this module, and has to undo where these are broken.
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from vfio_hooks.config import Config
    from vfio_hooks.domain import Domain
    from vfio_hooks.engine.journal import Claim
    from vfio_hooks.engine.state import StateFolder
    from vfio_hooks.host import Host

_LATER = ("start", "started", "stopped")
_RIPE = 2 * 10**9
"""Nanoseconds. Two changes within one tick of a file system's clock, which may last two seconds,
have the same time. So no note depends on a file that was changed only just now."""


class Notes:
    """A VM's notes. The times of what they depend on are taken now, before it is read."""

    def __init__(self, folder: StateFolder, hooks: str, vm: str) -> None:
        own = f"{hooks}/{VM_FOLDERS}/{vm}"
        self._disk = folder.disk
        self._place = f"{folder.path}/idle/{vm}"
        self._is_safe = "/" not in vm
        self._changed = {
            "folder": _changed(own),
            VM_FILE: _changed(f"{own}/{VM_FILE}"),
            HOST_FILE: _changed(f"{hooks}/{HOST_FILE}"),
            # An upgrade rewrites it, with the folder of its own version.
            "hook": _changed(f"{hooks}/qemu"),
        }

    def keep(self, ops: Sequence[str]) -> None:
        """Note that these events are idle. If this is cut off, it leaves no note that counts."""
        times = {name: at for name, at in self._changed.items() if at is not None}
        if not ops or max(times.values(), default=0) > time.time_ns() - _RIPE:
            return
        try:
            os.makedirs(self._place, mode=0o700, exist_ok=True)
            for name, at in (*times.items(), *((op, 0) for op in ops)):
                self._disk.stamp(f"{self._place}/{name}", at)
        except OSError:
            # Without notes, every event is handled in full.
            self.forget()

    def forget(self, *ops: str) -> None:
        """Remove the notes of these events; without arguments all, and the times with them."""
        if not self._is_safe:
            return
        with suppress(OSError):
            for name in ops or (*_LATER, *self._changed):
                self._disk.remove(f"{self._place}/{name}")
            if not ops:
                os.rmdir(self._place)


def idle_events(domain: Domain, config: Config, host: Host, held: Iterable[Claim]) -> Iterator[str]:
    """The later events in which a VM has nothing to do, whatever happens to the host. `held` are
    its claims after `prepare`. A VM's own module may do anything at any event."""
    from vfio_hooks.host.network import is_vf_pool
    from vfio_hooks.plugins.own import OwnPlugin

    if any(isinstance(table.plugin, OwnPlugin) for table in config.tables):
        return
    # A function from a pool is in the domain's XML only at start.
    if not any(is_vf_pool(host, network) for network in domain.networks):
        yield from (op for op in PLANNED[1:] if _plans_nothing(op, domain, config))
    if all(claim.step.until != "stopped" for claim in held):
        yield "stopped"


class _UnknownHost:
    """Stands for a host about which nothing is known, to find out whether a plan depends on it."""

    is_asked = False

    def __getattr__(self, name: str) -> None:
        self.is_asked = True
        raise AttributeError(name)


def _plans_nothing(op: str, domain: Domain, config: Config) -> bool:
    """Whether all plans for an event are empty, without a look at the host."""
    from vfio_hooks.event import Event

    unknown = _UnknownHost()
    host: Any = unknown
    event = Event(domain.name, op)
    try:
        for table in config.tables:
            if list(table.plugin.plan(event, domain, table.options, host)):
                return False
    except Exception:
        return False
    return not unknown.is_asked


def _changed(path: str) -> int | None:
    """When a file was last changed, in nanoseconds since 1970; None if there is none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
