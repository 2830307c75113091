"""All VMs' claims together: what is changed on this host now, and for which VM."""

from __future__ import annotations

from math import inf

from vfio_hooks.engine.journal import Claim, Journal, State
from vfio_hooks.engine.sealed import Sealed
from vfio_hooks.errors import Gone, HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfio_hooks.engine.state import StateFolder
    from vfio_hooks.host import Host
    from vfio_hooks.knobs.base import Knob
    from vfio_hooks.sharing import Share
    from vfio_hooks.steps import Step


class Ledger:
    """The journals of a state folder, and an index of their claims by key. One that is sealed is
    asked for the claims on a key, and read whole only where more than that is needed of it."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self.journals: dict[str, Journal] = {}
        """Those that have been read whole."""
        self._sealed: dict[str, Sealed] = {}
        self.damaged: dict[str, HookError] = {}
        """Journals that cannot be understood, by UUID. Undoing goes on without them; starting
        does not, since what they hold is not known."""
        self.blank: list[Journal] = []
        """Journals without a record, of VMs for which nothing was changed: there was no room."""
        self.ahead: dict[str, str] = {}
        """The values that undoing the VMs which are forgotten will leave, by key."""
        self._by_key: dict[str, list[tuple[Journal, int]]] = {}
        self._last = 0
        for uuid in folder.uuids():
            try:
                found = folder.look(uuid)
            except Gone:
                continue
            except HookError as error:
                self.damaged[uuid] = error
                continue
            if isinstance(found, Sealed):
                self._sealed[uuid] = found
                self._last = max(self._last, found.last)
            elif found.names:
                self._add(found)
            else:
                self.blank.append(found)

    def read_all(self) -> Ledger:
        """Read all journals whole, for a caller that shows all that is in them."""
        for uuid in [*self._sealed]:
            self.find(uuid)
        return self

    def require_whole(self) -> None:
        """Raise HookError for a damaged journal."""
        for error in self.damaged.values():
            raise error

    def find(self, uuid: str) -> Journal | None:
        """The journal of a VM; None where there is none, or none that can be understood."""
        if found := self._sealed.pop(uuid, None):
            try:
                self._add(self._folder.understand(uuid, found.data))
            except HookError as error:
                self.damaged[uuid] = error
        return self.journals.get(uuid)

    def journal(self, uuid: str, vm: str) -> Journal:
        """The journal of a VM, a new one where it has none yet."""
        found = self.find(uuid)
        if found is None:
            found = self.journals[uuid] = self._folder.create(uuid, vm)
        found.rename(vm)
        return found

    def next_number(self) -> int:
        return self._last + 1

    def begin(self, journal: Journal, event: str) -> None:
        """Open an event of a VM. Raises HookError."""
        self._folder.unsettle()
        journal.begin(event, self.next_number())

    def settle(self) -> None:
        """Take back that an event is under way, where all that began have ended."""
        if not self.unfinished():
            self._folder.settle()

    def claim(self, journal: Journal, event: str, time: float, step: Step, base: str) -> Claim:
        """Put a new claim on disk and into the index."""
        claim = journal.claim(self.next_number(), event, time, step, base)
        self._index(journal, claim)
        return claim

    def on(self, key: str) -> list[Claim]:
        """The claims that count on a key, oldest first: neither undone nor lost."""
        claims = [journal.claims[number] for journal, number in self._by_key.get(key, ())]
        for other in self._sealed.values():
            claims += other.on(key)
        counting = (claim for claim in claims if claim.state not in (State.UNDONE, State.LOST))
        return sorted(counting, key=lambda claim: claim.number)

    def counting(self, knob: Knob, host: Host, since: float = inf) -> list[Claim]:
        """The claims that a value comes of, oldest first: those on it, and of a VM that has none
        those on the value that it began with. Of the latter none with the number `since` or a
        higher one: it was there before these."""
        own = self.on(knob.key)
        above = self.on(knob.begins_as) if knob.begins_as else []
        if own and above:
            base = above[-1].base
            if own[-1].base not in (base, knob.begun(base, host)):
                return own
        known = {claim.uuid for claim in own}
        inherited = [c for c in above if c.uuid not in known and c.number < since]
        return sorted([*own, *inherited], key=lambda claim: claim.number)

    def lose(self, key: str) -> None:
        """Give a value up to whoever changed it: every claim on it ends."""
        for claim in self.on(key):
            if journal := self.find(claim.uuid):
                journal.mark(claim, State.LOST)

    def unfinished(self) -> list[Journal]:
        """The journals of VMs whose last event was cut off by a crash."""
        return [journal for journal in self.journals.values() if journal.event is not None]

    def forget(self, uuid: str) -> None:
        """Reckon without a VM's claims, which something will have undone by then."""
        del self.journals[uuid]
        for keyed in self._by_key.values():
            keyed[:] = [entry for entry in keyed if entry[0].uuid != uuid]

    def _add(self, journal: Journal) -> None:
        self.journals[journal.uuid] = journal
        for claim in journal.claims.values():
            self._index(journal, claim)

    def _index(self, journal: Journal, claim: Claim) -> None:
        self._by_key.setdefault(claim.step.key, []).append((journal, claim.number))
        self._last = max(self._last, claim.number)


def holding(claims: Sequence[Claim]) -> list[Share]:
    """The shares of the claims that have their value now."""
    return [claim.step.share for claim in claims if claim.state is State.HELD]
