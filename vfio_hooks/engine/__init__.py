"""Carries out plans (applying.py) and undoes them (undoing.py), one event at a time.

Whatever kills this process, and at whatever moment, the journals on disk say what was changed. The
next event of any VM, or `undo`, finishes what was cut off before it does anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from vfio_hooks import ENDING
from vfio_hooks.engine.applying import Applying
from vfio_hooks.engine.journal import Claim, Journal
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import Change, check, preview
from vfio_hooks.engine.undoing import Undoing
from vfio_hooks.errors import HookError
from vfio_hooks.host import Seen, WritableHost
from vfio_hooks.host.view import View
from vfio_hooks.log import Folded, Log
from vfio_hooks.record import record
from vfio_hooks.sharing import is_shared
from vfio_hooks.steps import Step
from vfio_hooks.wait import Signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.engine.state import StateFolder

UNDOING_EVENTS = (*ENDING, "undo")


@record
class Given:
    """What a plan is made from, under the lock: the host as it is then, each file read only once
    for the whole plan, and what is changed already. A value is read again just before its write."""

    host: View
    ledger: Ledger


Planner = Callable[[Given], Sequence[Step]]
"""Makes the plan of one event."""


class Engine:
    """Applies and undoes plans on one host with one state folder."""

    def __init__(
        self, host: WritableHost, folder: StateFolder, log: Log, signals: Signals | None = None
    ) -> None:
        self.host = host
        self.folder = folder
        self.log = Folded(log)
        self.signals = signals or Signals()

    def perform(self, event: str, uuid: str, vm: str, planner: Planner) -> list[Claim]:
        """Plan an event and carry the plan out. On any failure, undo it and raise HookError.
        Returns all claims that the VM has afterwards.

        What an earlier run of the same VM left behind, because libvirtd was killed and called no
        hook at its end, is undone first.
        """
        with self._locked():
            ledger, changes = self._planned(event, uuid, vm, planner)
            journal = ledger.journal(uuid, vm)
            if changes or (event == "started" and journal.live()):
                applying = Applying(self.host, ledger, self.log, self.signals)
                applying.carry_out(journal, event, changes)
            return journal.live()

    def rehearse(self, event: str, uuid: str, vm: str, planner: Planner) -> list[Change]:
        """The plan that `perform` would carry out. Raises HookError as `perform` would. What a
        crash or an earlier run left behind is really undone first, because it would change the
        plan."""
        with self._locked():
            return self._planned(event, uuid, vm, planner)[1]

    def recover(self) -> None:
        """Finish every event that was cut off, no matter of which VM."""
        with self._locked():
            self._open("")

    def undo(self, event: str, uuid: str, vm: str = "") -> list[str]:
        """Undo a VM's steps, newest first: at "stopped" those that end there, otherwise all. `vm`
        is the VM's current name, if it is known.

        Returns a line for each value that could not be put back; the others are undone anyway.
        """
        with self._locked():
            ledger = self._open("")
            journal = ledger.find(uuid)
            problems = [ledger.damaged[uuid].problem] if uuid in ledger.damaged else []
            if journal is None:
                return problems
            journal.rename(vm or journal.vm)
            return problems + self._undo_event(ledger, journal, event, _ending(journal, event))

    def forget(self, uuid: str) -> list[str]:
        """Give up what a VM still has changed, without touching it. Returns a line for each change,
        with the value that stays and the host's own. A damaged journal is given up as a whole.
        """
        with self._locked():
            ledger = self._open("")
            if uuid in ledger.damaged:
                self.folder.create(uuid, "?").remove()
                return [f"{ledger.damaged[uuid].problem}: removed; what the VM had changed stays"]
            journal = ledger.find(uuid)
            claims = journal.live() if journal else []
            told = [f"{claim.vm}: forgotten: {_standing(claim, self.host)}" for claim in claims]
            if journal:
                journal.remove()
            return told

    def _planned(
        self, event: str, uuid: str, vm: str, planner: Planner
    ) -> tuple[Ledger, list[Change]]:
        ledger = self._open(vm)
        ledger.require_whole()
        journal = ledger.journal(uuid, vm)
        self.host.tell = lambda text: self.log.info(f"{vm}: {text}", vm)
        if event == "prepare" and journal.live():
            if not journal.only_waits():
                self.log.info(f"{vm}: its last run was never undone: undoing it first", vm)
            self._undo_event(ledger, journal, "undo", journal.live())
        given = Given(View(self.host), ledger)
        steps = planner(given)
        check(steps, uuid, ledger, given.host)
        return ledger, preview(steps, given.host, ledger)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self.signals.caught(), self.folder.locked(self.signals.check):
            # Other events may have been handled since then.
            self.host.seen = Seen()
            try:
                yield
            finally:
                self.log.flush()

    def _open(self, vm: str) -> Ledger:
        """Read all journals, and finish what a crash cut off in any of them."""
        ledger = Ledger(self.folder)
        undoing = Undoing(self.host, ledger, self.log)
        for error in ledger.damaged.values():
            self.log.warning(str(error), vm)
        for journal in ledger.unfinished():
            event = journal.event or ""
            self.log.warning(f"{journal.vm}: {event} was cut off: undoing what it did", journal.vm)
            ending = _ending(journal, event) if event in UNDOING_EVENTS else journal.since_begin()
            undoing.undo(journal, ending)
            undoing.close(journal)
        for journal in [*ledger.journals.values()]:
            if undoing.wake(journal):
                undoing.close(journal)
        for journal in ledger.blank:
            undoing.close(journal)
        ledger.settle()
        return ledger

    def _undo_event(
        self, ledger: Ledger, journal: Journal, event: str, claims: list[Claim]
    ) -> list[str]:
        if claims:
            try:
                ledger.begin(journal, event)
            except HookError as error:
                # A disk without room for a record is no reason to leave the host changed.
                self.log.warning(str(error), journal.vm)
        undoing = Undoing(self.host, ledger, self.log)
        problems = undoing.undo(journal, claims)
        undoing.close(journal)
        return problems


def _ending(journal: Journal, event: str) -> list[Claim]:
    """The claims that an undoing event ends."""
    return [
        claim for claim in journal.live() if event != "stopped" or claim.step.until == "stopped"
    ]


def _standing(claim: Claim, host: WritableHost) -> str:
    """A line for people about a change that stays."""
    knob = claim.step.knob
    try:
        now = knob.shows(knob.read(host))
    except HookError:
        now = "as it is"
    was = f" (its own is {knob.shows(claim.base)})" if is_shared(claim.step.share) else ""
    return f"{claim.step.key} stays {now}{was}"
