"""Carries a plan out, step by step: journal first, kernel second.

A claim is on disk before its value is written. If a required step fails, the steps before it are
undone.
"""

from __future__ import annotations

import time

from vfio_hooks.engine.journal import State
from vfio_hooks.engine.plan import Change, is_detached, is_over, own_value, undo_text
from vfio_hooks.engine.undoing import Undoing
from vfio_hooks.errors import HookError, Immovable
from vfio_hooks.record import record
from vfio_hooks.sharing import Exclusive, is_shared, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfio_hooks.engine.journal import Journal
    from vfio_hooks.engine.ledger import Ledger
    from vfio_hooks.host import WritableHost
    from vfio_hooks.log import Folded
    from vfio_hooks.steps import Step
    from vfio_hooks.wait import Signals


@record
class Applying:
    """Carries plans out on a host, and takes into account the claims of all other VMs."""

    host: WritableHost
    ledger: Ledger
    log: Folded
    signals: Signals

    def carry_out(self, journal: Journal, event: str, changes: Sequence[Change]) -> None:
        """Carry out the plan of one VM's event. On any failure, undo what was done of it and raise
        the error, with what could not be undone as its hint."""
        self._take_over(journal, changes)
        self._begin(journal, event)
        try:
            immovable = self._attempt_all(journal, event, changes)
            journal.end()
        except Exception as error:
            undoing = self._undoing()
            problems = undoing.undo(journal, journal.since_begin())
            undoing.close(journal)
            if isinstance(error, HookError) and problems:
                hint = f"could not be undone: {'; '.join(problems)}"
                raise HookError(str(error), hint) from error
            raise
        self.ledger.settle()
        if immovable:
            told = ", ".join(immovable[:3]) + (" and so on" if immovable[3:] else "")
            self.log.info(f"{journal.vm}: {len(immovable)} cannot be changed: {told}", journal.vm)

    def _take_over(self, journal: Journal, changes: Sequence[Change]) -> None:
        """End the claims of VMs on devices that were detached from them. Otherwise the end of such
        a VM would take the device from the VM that has it next."""
        lent = (change.step.key for change in changes if isinstance(change.step.share, Exclusive))
        for key in lent:
            for claim in self.ledger.on(key):
                other = self.ledger.find(claim.uuid)
                if other and other is not journal and is_detached(claim, self.ledger, self.host):
                    undoing = self._undoing()
                    undoing.undo(other, [claim])
                    undoing.close(other)

    def _begin(self, journal: Journal, event: str) -> None:
        try:
            self.ledger.begin(journal, event)
        except HookError:
            # There may still be a file, in which there was no room for a record.
            self._undoing().close(journal)
            raise

    def _attempt_all(self, journal: Journal, event: str, changes: Sequence[Change]) -> list[str]:
        """Carry all steps out. Returns a line for each value that the kernel does not let anybody
        change."""
        immovable = []
        for change in changes:
            self.signals.check()
            try:
                self._attempt(journal, event, change)
            except Immovable as error:
                immovable.append(error.problem)
        self.signals.check()
        return immovable

    def _attempt(self, journal: Journal, event: str, change: Change) -> None:
        """Carry a step out. If it fails and is not required, go on without it."""
        if change.problem:
            self.log.warning(f"{journal.vm}: going on without it: {change.problem}", journal.vm)
            return
        number = self.ledger.next_number()
        try:
            self._apply(journal, event, change.step)
        except Immovable:
            raise
        except HookError as error:
            if change.step.required:
                raise
            tell = self.log.info if is_over(change.step, error) else self.log.warning
            tell(f"{journal.vm}: going on without it: {error}", journal.vm)
            self._undoing().undo(
                journal, [claim for claim in journal.live() if claim.number >= number]
            )

    def _apply(self, journal: Journal, event: str, step: Step) -> None:
        act = self._set if is_shared(step.share) else self._do
        change = act(journal, event, step)
        self.log.info(f"{journal.vm}: {step.plugin}: {change}", journal.vm)

    def _do(self, journal: Journal, event: str, step: Step) -> Change:
        """Do something that has no value to compare and share, such as running a command."""
        claim = self.ledger.claim(journal, event, time.time(), step, "")
        value = target("", [step.share])
        step.knob.write(self.host, value)
        journal.mark(claim, State.HELD)
        return Change(step, "", value, undo_text(step, ""))

    def _set(self, journal: Journal, event: str, step: Step) -> Change:
        """Set a value to what the host's own and all VMs' shares of it add up to."""
        step.knob.ready(self.host)
        # Read again, now: an earlier step of this plan may have changed it.
        live = step.knob.read(self.host)
        own = own_value(self.ledger, step, live, self.host, journal.opened)
        if own.foreign:
            self._undoing().give_up(step.knob, live)
        wanted = target(own.base, [*own.shares, step.share])
        claim = self.ledger.claim(journal, event, time.time(), step, own.base)
        if live != wanted:
            try:
                step.knob.write(self.host, wanted)
            except Immovable:
                journal.mark(claim, State.UNDONE)
                raise
        journal.mark(claim, State.HELD)
        return Change(step, live, wanted, undo_text(step, own.base))

    def _undoing(self) -> Undoing:
        return Undoing(self.host, self.ledger, self.log)
