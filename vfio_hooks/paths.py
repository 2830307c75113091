"""Where a run of the program finds its configuration, its state and the host."""

from __future__ import annotations

from vfio_hooks import HOOKS, STATE
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.host import WritableHost
from vfio_hooks.record import record


@record
class Paths:
    """The folder of the hooks' configuration, that of the journals, and the host's root."""

    config: str = HOOKS
    state: str = STATE
    root: str = "/"

    def host(self) -> WritableHost:
        return WritableHost(self.root)

    def folder(self) -> StateFolder:
        return StateFolder(self.state)
