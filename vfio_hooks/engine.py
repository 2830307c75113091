"""Carrying a plan out, and taking it back: journal first, kernel second, step by step.

Whatever kills this process, and wherever, the journals on disk tell what was changed. The next
event of any VM, or `undo`, finishes what was cut off before it does anything else.
"""

import time
from collections.abc import Callable, Sequence

from vfio_hooks.errors import Gone, HookError, Immovable
from vfio_hooks.host import WritableHost
from vfio_hooks.journal import Claim, Journal, State
from vfio_hooks.ledger import Ledger, holding
from vfio_hooks.log import Log
from vfio_hooks.plan import Change, check, own_value, preview, undo_text
from vfio_hooks.sharing import UNDONE as RUN_UNDONE
from vfio_hooks.sharing import Add, Exclusive, Once, Run, added, is_shared, target
from vfio_hooks.state import StateFolder
from vfio_hooks.steps import Step
from vfio_hooks.wait import Signals

Planner = Callable[[Ledger], Sequence[Step]]
"""Makes the plan, under the lock, from the host as it is then."""

UNDOING_EVENTS = ("stopped", "release", "undo")


class Engine:
    """Applies and undoes plans on one host with one state folder."""

    def __init__(
        self, host: WritableHost, folder: StateFolder, log: Log, signals: Signals | None = None
    ) -> None:
        self.host = host
        self.folder = folder
        self.log = log
        self.signals = signals or Signals()

    def perform(self, event: str, uuid: str, vm: str, planner: Planner) -> None:
        """Plan an event and carry the plan out; on any failure undo it and raise HookError.

        What an earlier run of the same VM left behind, because libvirtd was killed and never
        told of its end, is undone first.
        """
        with self.signals.caught(), self.folder.locked():
            ledger = self._open(vm)
            if ledger.damaged:
                raise ledger.damaged[0]
            journal = ledger.journal(uuid, vm)
            self.host.tell = lambda text: self.log.info(f"{vm}: {text}", vm)
            if event == "prepare" and journal.live():
                self.log.info(f"{vm}: its last run was never released: undoing it first", vm)
                self._undo_event(ledger, journal, "undo", journal.live())
            steps = planner(ledger)
            check(steps, uuid, ledger)
            changes = preview(steps, self.host, ledger)
            if steps:
                self._carry_out(ledger, journal, event, changes)

    def rehearse(self, uuid: str, vm: str, planner: Planner) -> list[Change]:
        """Make and log the plan that `perform` would carry out, and change nothing."""
        with self.folder.locked():
            ledger = Ledger(self.folder)
            steps = planner(ledger)
            check(steps, uuid, ledger)
            changes = preview(steps, self.host, ledger)
        for change in changes:
            self.log.info(f"{vm}: would be: {change.step.plugin}: {change}", vm)
        return changes

    def undo(self, event: str, uuid: str) -> list[str]:
        """Undo a VM's steps, newest first: at "stopped" those that end there, else all.

        Returns what could not be put back, a line each; the rest is undone all the same.
        """
        with self.signals.caught(), self.folder.locked():
            ledger = self._open("")
            journal = ledger.journals.get(uuid)
            problems = [error.problem for error in ledger.damaged if uuid in error.problem]
            if journal is None:
                return problems
            return problems + self._undo_event(ledger, journal, event, _ending(journal, event))

    def _open(self, vm: str) -> Ledger:
        """Read all journals, and finish what a crash cut off in any of them."""
        ledger = Ledger(self.folder)
        for error in ledger.damaged:
            self.log.warning(str(error), vm)
        for journal in ledger.unfinished():
            event = journal.event or ""
            self.log.warning(f"{journal.vm}: {event} was cut off: undoing what it did", journal.vm)
            ending = _ending(journal, event) if event in UNDOING_EVENTS else journal.since_begin()
            self._undo_claims(ledger, journal, ending)
            self._close(journal)
        return ledger

    def _carry_out(
        self, ledger: Ledger, journal: Journal, event: str, changes: Sequence[Change]
    ) -> None:
        journal.begin(event, ledger.next_number())
        try:
            for change in changes:
                self.signals.check()
                self._attempt(ledger, journal, event, change)
            self.signals.check()
        except Exception as error:
            problems = self._undo_claims(ledger, journal, journal.since_begin())
            self._close(journal)
            if isinstance(error, HookError) and problems:
                hint = f"could not be put back: {'; '.join(problems)}"
                raise HookError(str(error), hint) from error
            raise
        journal.end()

    def _attempt(self, ledger: Ledger, journal: Journal, event: str, change: Change) -> None:
        """Carry a step out; where it is not required, go on without it when it fails."""
        if change.problem:
            self.log.warning(f"{journal.vm}: going on without it: {change.problem}", journal.vm)
            return
        number = ledger.next_number()
        try:
            self._apply(ledger, journal, event, change.step)
        except HookError as error:
            if change.step.required:
                raise
            self.log.warning(f"{journal.vm}: going on without it: {error}", journal.vm)
            self._undo_claims(
                ledger, journal, [claim for claim in journal.live() if claim.number >= number]
            )

    def _apply(self, ledger: Ledger, journal: Journal, event: str, step: Step) -> None:
        if not is_shared(step.share):
            claim = ledger.claim(journal, event, time.time(), step, "")
            value = target("", [step.share])
            step.knob.write(self.host, value)
            journal.mark(claim, State.HELD)
            self._tell(journal.vm, Change(step, "", value, undo_text(step, "")))
            return
        step.knob.ready(self.host)
        # Read again, now: an earlier step of this plan may have changed it.
        live = step.knob.read(self.host)
        own = own_value(ledger, step, live)
        if own.foreign:
            self._give_up(ledger, step.key, live)
        wanted = target(own.base, [*own.shares, step.share])
        claim = ledger.claim(journal, event, time.time(), step, own.base)
        if live != wanted:
            try:
                step.knob.write(self.host, wanted)
            except Immovable as error:
                self.log.info(f"{journal.vm}: {step.plugin}: {error}", journal.vm)
                journal.mark(claim, State.UNDONE)
                return
        journal.mark(claim, State.HELD)
        self._tell(journal.vm, Change(step, live, wanted, undo_text(step, own.base)))

    def _undo_event(
        self, ledger: Ledger, journal: Journal, event: str, claims: list[Claim]
    ) -> list[str]:
        if claims:
            try:
                journal.begin(event, ledger.next_number())
            except HookError as error:
                # No room for a record is no reason to keep the host changed.
                self.log.warning(str(error), journal.vm)
        problems = self._undo_claims(ledger, journal, claims)
        self._close(journal)
        return problems

    def _undo_claims(self, ledger: Ledger, journal: Journal, claims: list[Claim]) -> list[str]:
        problems = []
        for claim in reversed(claims):
            try:
                self._revert(ledger, journal, journal.claims[claim.number])
            except HookError as error:
                problems.append(error.problem)
                self.log.warning(f"{journal.vm}: {error}", journal.vm)
            except Exception as error:
                # A defect of ours must not keep the other steps from being undone.
                problems.append(f"{claim.step.key}: {type(error).__name__}: {error}")
                self.log.warning(f"{journal.vm}: {problems[-1]}", journal.vm)
        return problems

    def _revert(self, ledger: Ledger, journal: Journal, claim: Claim) -> None:
        step = claim.step
        if claim.state is State.LOST or isinstance(step.share, Once):
            self._mark(journal, claim, State.UNDONE)
        elif isinstance(step.share, Run):
            self._mark(journal, claim, State.UNDOING)
            step.knob.write(self.host, RUN_UNDONE)
            self._mark(journal, claim, State.UNDONE)
        else:
            self._revert_value(ledger, journal, claim)

    def _revert_value(self, ledger: Ledger, journal: Journal, claim: Claim) -> None:
        step = claim.step
        try:
            live = step.knob.read(self.host)
        except Gone as error:
            self.log.info(f"{journal.vm}: {error.problem}: nothing to put back", journal.vm)
            self._mark(journal, claim, State.UNDONE)
            return
        goal = self._goal(ledger, claim, live)
        if goal is None:
            self._give_up(ledger, step.key, live)
            self._mark(journal, claim, State.UNDONE)
            return
        if live != goal:
            self._mark(journal, claim, State.UNDOING, goal)
            try:
                step.knob.write(self.host, goal)
            except Immovable as error:
                self.log.info(f"{journal.vm}: {step.plugin}: {error}", journal.vm)
                self._mark(journal, claim, State.UNDONE)
                return
            except HookError:
                if step.knob.atomic:
                    # Still ours and untouched: it goes on counting, and can be tried again.
                    self._mark(journal, claim, State.HELD)
                raise
            self.log.info(f"{journal.vm}: {step.plugin}: {step.key}: {live} → {goal}", journal.vm)
        self._mark(journal, claim, State.UNDONE)

    def _goal(self, ledger: Ledger, claim: Claim, live: str) -> str | None:
        """What the value has to be without this claim; None where it is not ours any more."""
        step, claims = claim.step, ledger.on(claim.step.key)
        others = [other for other in claims if other.number != claim.number]
        goal = target(claim.base, holding(others)) if claim.goal is None else claim.goal
        ours = [c.step.share for c in claims if c is claim or c.state is State.HELD]
        if isinstance(step.share, Add):
            return _goal_of_sum(claim, step.share.count, int(live), int(goal), added(ours))
        if live in (goal, target(claim.base, ours)):
            return goal
        cut_off = any(other.state is not State.HELD for other in claims)
        if cut_off and not step.knob.atomic:
            return goal
        if isinstance(step.share, Exclusive) and step.knob.is_lent(live, claim.base):
            return goal
        return None

    def _give_up(self, ledger: Ledger, key: str, live: str) -> None:
        for claim in ledger.on(key):
            self.log.warning(
                f"{claim.vm}: {key}: somebody else has set it to {live} since: left alone",
                claim.vm,
            )
        ledger.lose(key)

    def _mark(self, journal: Journal, claim: Claim, state: State, goal: str | None = None) -> None:
        """Note how far an undo is. Where the note cannot be written the undo goes on: all that
        is lost is that a later undo looks at a value which is right already."""
        try:
            journal.mark(claim, state, goal)
        except HookError as error:
            self.log.warning(str(error), journal.vm)

    def _close(self, journal: Journal) -> None:
        if not journal.live():
            journal.remove()
        elif journal.event is not None:
            try:
                journal.end()
            except HookError as error:
                self.log.warning(str(error), journal.vm)

    def _tell(self, vm: str, change: Change) -> None:
        self.log.info(f"{vm}: {change.step.plugin}: {change}", vm)


def _ending(journal: Journal, event: str) -> list[Claim]:
    """The claims that an undoing event ends."""
    return [
        claim for claim in journal.live() if event != "stopped" or claim.step.until == "stopped"
    ]


def _goal_of_sum(claim: Claim, count: int, live: int, goal: int, ours: int) -> str | None:
    """What a number has to be without this claim's part, others' changes to it left in place."""
    if claim.state is not State.HELD and goal <= live <= goal + count:
        return str(goal)
    return str(live - count) if live >= ours else None
