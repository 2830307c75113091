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
    """The journals of a state folder, and an index of their claims by key. A sealed journal is only
    searched for the claims on single keys, and read as a whole if more of it is needed."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self.journals: dict[str, Journal] = {}
        """The journals that have been read as a whole, by UUID."""
        self._sealed: dict[str, Sealed] = {}
        self.damaged: dict[str, HookError] = {}
        """Journals that cannot be understood, by UUID. Undoing goes on without them. No VM is
        started, because nobody knows what these journals hold."""
        self.blank: list[Journal] = []
        """Journals without a record, for which there was no room. Nothing was changed then."""
        self.ahead: dict[str, str] = {}
        """The values that the undo of forgotten VMs will leave, by key."""
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
        """The journal of a VM; None if there is none, or if it cannot be understood."""
        if found := self._sealed.pop(uuid, None):
            try:
                self._add(self._folder.understand(uuid, found.data))
            except HookError as error:
                self.damaged[uuid] = error
        return self.journals.get(uuid)

    def journal(self, uuid: str, vm: str) -> Journal:
        """The journal of a VM; a new one if it has none yet."""
        found = self.find(uuid)
        if found is None:
            found = self.journals[uuid] = self._folder.create(uuid, vm)
        found.rename(vm)
        return found

    def next_number(self) -> int:
        return self._last + 1

    def begin(self, journal: Journal, event: str) -> None:
        """Begin an event of a VM. Raises HookError."""
        self._folder.unsettle()
        journal.begin(event, self.next_number())

    def settle(self) -> None:
        """Note that no event is under way, if all that began have ended."""
        if not self.unfinished():
            self._folder.settle()

    def claim(self, journal: Journal, event: str, time: float, step: Step, base: str) -> Claim:
        """Write a new claim to disk and add it to the index. Raises HookError."""
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
        """The claims that make up a value, oldest first: those on it and, for VMs that have none on
        it, those on the value that it began with. Of the latter, claims with the number `since` or
        higher do not count, because the value was there before them."""
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
        """Leave a VM's claims out, as if they were undone already."""
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
    """The shares of the claims whose write is done."""
    return [claim.step.share for claim in claims if claim.state is State.HELD]
