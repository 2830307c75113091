"""Takes claims back: each value becomes what it would be if the claim had never been made.

This has to work when nothing else does. It needs the journals and the knobs, but no plugin, no
configuration, no domain XML, and nothing outside of the standard library.
"""

from __future__ import annotations

from contextlib import suppress

from vfio_hooks.engine.journal import Claim, Journal, State
from vfio_hooks.engine.ledger import Ledger, holding
from vfio_hooks.engine.value import Value
from vfio_hooks.errors import Asleep, Gone, HookError, Immovable
from vfio_hooks.host.cpu import online
from vfio_hooks.host.cpulist import format_list, parse_list
from vfio_hooks.record import record
from vfio_hooks.sharing import UNDONE, Once, Run, offline, shown, target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from vfio_hooks.host import WritableHost
    from vfio_hooks.knobs.base import Knob
    from vfio_hooks.log import Folded
    from vfio_hooks.sharing import Share


@record
class Undoing:
    """Undoes claims on a host, and takes into account those of all other VMs."""

    host: WritableHost
    ledger: Ledger
    log: Folded

    def undo(self, journal: Journal, claims: list[Claim]) -> list[str]:
        """Undo claims of one VM, newest first. A failure does not stop the others. Returns a line
        for each value that could not be put back."""
        problems: dict[int, str] = {}
        self.host.tell = lambda text: self.log.info(f"{journal.vm}: {text}", journal.vm)
        for claim in reversed(claims):
            try:
                self._revert(journal, journal.claims[claim.number])
            except HookError as error:
                problems[claim.number] = error.problem
                self.log.warning(f"{journal.vm}: {error}", journal.vm)
            except Exception as error:
                # A defect of ours must not keep the other steps from being undone.
                problem = f"{claim.step.key}: {type(error).__name__}: {error}"
                problems[claim.number] = problem
                self.log.warning(f"{journal.vm}: {problem}", journal.vm)
        return [
            problem
            for number, problem in problems.items()
            if not self._came_right(journal, journal.claims[number])
        ]

    def wake(self, journal: Journal) -> bool:
        """Undo the claims that waited for a CPU which is back. Returns whether there were any."""
        waiting = [claim for claim in journal.live() if claim.state is State.WAITING]
        awake = [claim for claim in waiting if self._is_awake(claim)]
        self.undo(journal, awake)
        return bool(awake)

    def close(self, journal: Journal) -> None:
        """End the journal's event, and remove the journal if no claim is left in it."""
        try:
            if not journal.live():
                journal.remove()
            else:
                journal.end()
        except HookError as error:
            self.log.warning(str(error), journal.vm)
        self.ledger.settle()

    def _is_awake(self, claim: Claim) -> bool:
        try:
            claim.step.knob.read(self.host)
        except HookError as error:
            return not isinstance(error, Asleep)
        return claim.goal is None or bool(parse_list(claim.goal) & online(self.host))

    def _awaited(self, claim: Claim, goal: str) -> str:
        """The CPUs that a value has to get back when they are online. Those that were offline when
        it was claimed are not waited for: they may stay offline for good."""
        lost = claim.step.knob.lost(goal, self.host)
        return lost and format_list(parse_list(lost) - parse_list(offline([claim.step.share])))

    def _came_right(self, journal: Journal, claim: Claim) -> bool:
        """Whether a value that could not be put back is right after all: something that was undone
        later, such as by a rescan of the bus, may have helped."""
        try:
            live = claim.step.knob.read(self.host)
        except Exception:
            return False
        goal = claim.goal
        if claim.state is not State.UNDOING or goal is None:
            return False
        if not claim.step.knob.same(live, goal, self.host):
            return False
        self.log.info(f"{journal.vm}: {claim.step.key}: {live} after all", journal.vm)
        self._mark(journal, claim, State.UNDONE)
        return True

    def _revert(self, journal: Journal, claim: Claim) -> None:
        step = claim.step
        if claim.state is State.LOST or isinstance(step.share, Once):
            self._mark(journal, claim, State.UNDONE)
        elif isinstance(step.share, Run):
            self._mark(journal, claim, State.UNDOING)
            step.knob.write(self.host, UNDONE)
            self._mark(journal, claim, State.UNDONE)
        else:
            self._revert_value(journal, claim)

    def _revert_value(self, journal: Journal, claim: Claim) -> None:
        step = claim.step
        try:
            live = step.knob.read(self.host)
        except Gone as error:
            return self._end(journal, claim, f"{error.problem}: nothing to undo")
        except Asleep:
            self._mark(journal, claim, State.WAITING)
            raise
        goal = Value(live, self.ledger.counting(step.knob, self.host), self.host).without(claim)
        if goal is None:
            self.give_up(step.knob, live)
            return self._mark(journal, claim, State.UNDONE)
        cut_off = claim.state in (State.PENDING, State.UNDOING) and step.knob.repeated
        if live != goal or cut_off:
            if claim.state is not State.PENDING or not step.knob.atomic:
                # A pending claim says already that the value may be anything that we wrote.
                self._mark(journal, claim, State.UNDOING, goal)
            try:
                step.knob.write(self.host, goal)
            except Immovable as error:
                return self._end(journal, claim, f"{step.plugin}: {error}")
            except HookError as error:
                if isinstance(error, Gone) and step.knob.is_brief:
                    return self._end(journal, claim, f"{error.problem}: nothing to undo")
                if step.knob.atomic:
                    self._mark(journal, claim, self._after_failure(claim, live))
                raise
            self.log.info(
                f"{journal.vm}: {step.plugin}: {step.key}: {shown(live)} → {shown(goal)}",
                journal.vm,
            )
        self._let_follow(journal, claim)
        if awaited := self._awaited(claim, goal):
            self._mark(journal, claim, State.WAITING, awaited)
            raise Asleep(
                f"CPUs are offline, and this kernel takes them from its threads: {awaited}",
                "when they are online, the next event of a VM with a vm.toml gives them back, or "
                "vfio-hooks undo",
            )
        return self._mark(journal, claim, State.UNDONE)

    def _end(self, journal: Journal, claim: Claim, why: str) -> None:
        """End a claim that needs no undo."""
        self.log.info(f"{journal.vm}: {why}", journal.vm)
        self._mark(journal, claim, State.UNDONE)

    def _after_failure(self, claim: Claim, before: str) -> State:
        """The state of a claim whose value could not be put back. If the value is untouched, the
        claim still holds. If the kernel made another value of our write, that is our doing."""
        try:
            untouched = claim.step.knob.read(self.host) == before
        except HookError:
            untouched = False
        was_held = claim.state is not State.PENDING
        return State.HELD if untouched and was_held else State.PENDING

    def _let_follow(self, journal: Journal, claim: Claim) -> None:
        """Also change other values that began as the value that was put back, and still have what
        it was before."""
        followers = [*claim.step.knob.followers(self.host)]
        # Few values have followers.
        known = {other.step.key for other in journal.claims.values()} if followers else ()
        for knob in followers:
            claims = self.ledger.counting(knob, self.host)
            others = [other for other in claims if other.number != claim.number]
            if knob.key not in known and len(others) < len(claims):
                with suppress(Gone, Immovable):
                    self._follow(claim, knob, others)

    def _follow(self, claim: Claim, knob: Knob, others: list[Claim]) -> None:
        live, shares = knob.read(self.host), holding(others)
        known = [other.base for other in others if other.step.key == knob.key]
        for base in known[-1:] or (claim.base, knob.begun(claim.base, self.host)):
            now = target(base, shares)
            for with_it in _begun_with(knob, claim, others):
                was = target(base, with_it)
                if live != now and knob.has_begun(live, was, offline(with_it), self.host):
                    knob.write(self.host, now)
                    text = f"{claim.step.plugin}: {knob.key}: {shown(live)} → {shown(now)}"
                    self.log.info(f"{claim.vm}: {text}", claim.vm)
                    return

    def give_up(self, knob: Knob, live: str) -> None:
        """Leave a value to whoever changed it: the claims of all VMs on it end."""
        mover = knob.mover(self.host)
        for claim in self.ledger.on(knob.key):
            text = f"{claim.vm}: {knob.key}: {mover or 'somebody else'} has set it to {shown(live)}"
            if mover:
                self.log.remark(f"{text} since, and keeps managing it", claim.vm)
            else:
                self.log.warning(f"{text} since, so it is left alone", claim.vm)
        self.ledger.lose(knob.key)

    def _mark(self, journal: Journal, claim: Claim, state: State, goal: str | None = None) -> None:
        """Note how far an undo is. If the note cannot be written, the undo goes on. At worst, a
        later undo then looks at a value that is right already."""
        try:
            journal.mark(claim, state, goal)
        except HookError as error:
            self.log.warning(str(error), journal.vm)


def _begun_with(knob: Knob, claim: Claim, others: list[Claim]) -> Iterator[list[Share]]:
    """The shares that a value without claims may have begun with: all of them, or only the older
    ones, as a VM that starts later leaves alone the interrupts that another guest already has."""
    end = len(others)
    yield [*holding(others), claim.step.share]
    while end and others[end - 1].number > claim.number and others[end - 1].step.key != knob.key:
        end -= 1
        yield [*holding(others[:end]), claim.step.share]
