"""The host as it will be when a VM's changes are undone, for looking ahead: nothing is written.

A plan is made after that undo, from what its plugins read of the host then. They read values in
files and drivers of devices; of everything else only the values themselves are known ahead.
"""

from __future__ import annotations

from contextlib import suppress

from vfio_hooks.engine.journal import Claim, Journal, State
from vfio_hooks.engine.undoing import Undoing
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.pci import DEVICES
from vfio_hooks.knobs import (
    CpuMask,
    File,
    GroupCpus,
    IrqAffinity,
    Pages,
    Partition,
    PciDriver,
    UsbDriver,
)
from vfio_hooks.knobs.pci_driver import Binding
from vfio_hooks.log import Folded, Log
from vfio_hooks.record import replace
from vfio_hooks.sharing import is_shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vfio_hooks.engine.ledger import Ledger

_FILES = (CpuMask, File, GroupCpus, IrqAffinity, Partition)
"""Knobs whose write is a write of files, with an effect on nothing else."""


class UndoneHost(Host):
    """A host on which files have another text, and devices another driver, than they have."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._texts: dict[str, str] = {}
        self._drivers: dict[str, str | None] = {}

    def read(self, name: str) -> str:
        return self._texts[name] if name in self._texts else super().read(name)

    def link(self, name: str) -> str | None:
        return self._drivers[name] if name in self._drivers else super().link(name)

    def write(self, name: str, text: str) -> None:
        """Let `read` show this text. Raises OSError where there is no such file."""
        self.read(name)
        self._texts[name] = text.strip()

    def undo(self, journal: Journal, ledger: Ledger, log: Log) -> None:
        """Reckon with a VM's changes being undone, and forget its claims. What cannot be undone,
        or told ahead, stays as it is."""
        # A host that can only be read, so that a knob which wants to do more cannot.
        host: Any = self
        undoing = Undoing(host, ledger, Folded(log))
        for claim in reversed(journal.live()):
            if is_shared(claim.step.share) and claim.state is not State.LOST:
                with suppress(HookError, ValueError):
                    self._put_back(claim, undoing)
            journal.claims[claim.number] = replace(claim, state=State.UNDONE)
        ledger.forget(journal.uuid)

    def _put_back(self, claim: Claim, undoing: Undoing) -> None:
        knob, ahead = claim.step.knob, undoing.ledger.ahead
        live = ahead[knob.key] if knob.key in ahead else knob.read(self)
        goal = undoing.goal(claim, live)
        if goal is None:
            return
        ahead[knob.key] = goal
        if isinstance(knob, Pages):
            self._take_pages(knob.path, int(live) - int(goal))
        elif isinstance(knob, _FILES):
            knob.write(undoing.host, goal)
        elif isinstance(knob, PciDriver | UsbDriver):
            binding = Binding.parse(goal)
            self._drivers[knob.key] = binding.driver
            if isinstance(knob, PciDriver):
                self._texts[f"{DEVICES}/{knob.address}/driver_override"] = binding.override or ""

    def _take_pages(self, path: str, count: int) -> None:
        # Nobody can have them then, so they are free ones.
        folder = path.rpartition("/")[0]
        for file in (path, f"{folder}/free_hugepages"):
            if (text := self.maybe(file)) is not None:
                self.write(file, str(max(0, int(text) - count)))
