"""The host as it will be when a VM's changes are undone, to look ahead: nothing is written.

A plan is made after that undo, from what its plugins then read from the host. Plugins read values
in files and drivers of devices. For everything else, only the values themselves are known in
advance.
"""

from __future__ import annotations

from contextlib import suppress

from vfio_hooks.engine.journal import Claim, Journal, State
from vfio_hooks.engine.value import Value
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.record import replace
from vfio_hooks.sharing import is_shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.engine.ledger import Ledger


class UndoneHost(Host):
    """A host on which some files have another text, and some links another target, than now."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self._foreseen: dict[str, str | None] = {}
        """What will be there, by path, as the knobs foresee it."""

    def read(self, name: str) -> str:
        text = self._foreseen.get(name)
        return super().read(name) if text is None else text

    def link(self, name: str) -> str | None:
        return self._foreseen[name] if name in self._foreseen else super().link(name)

    def undo(self, journal: Journal, ledger: Ledger) -> None:
        """Show the host as it is after the undo of a VM's changes, and forget its claims. What
        cannot be undone, or not be foreseen, stays as it is."""
        for claim in reversed(journal.live()):
            if is_shared(claim.step.share) and claim.state is not State.LOST:
                with suppress(HookError, ValueError):
                    self._put_back(claim, ledger)
            journal.claims[claim.number] = replace(claim, state=State.UNDONE)
        ledger.forget(journal.uuid)

    def _put_back(self, claim: Claim, ledger: Ledger) -> None:
        knob, ahead = claim.step.knob, ledger.ahead
        live = ahead[knob.key] if knob.key in ahead else knob.read(self)
        goal = Value(live, ledger.counting(knob, self), self).without(claim)
        if goal is not None:
            self._foreseen.update(knob.foresee(self, goal))
            ahead[knob.key] = goal
