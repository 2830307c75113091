"""All VMs' claims together: what is changed on this host now, by whom."""

from math import inf

from vfio_hooks.engine.journal import Claim, Journal, State
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.errors import Gone, HookError
from vfio_hooks.knobs.base import Knob
from vfio_hooks.sharing import Share
from vfio_hooks.steps import Step


class Ledger:
    """The journals of a state folder, and an index of their claims by key."""

    def __init__(self, folder: StateFolder) -> None:
        self._folder = folder
        self.journals: dict[str, Journal] = {}
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
                journal = folder.load(uuid)
            except Gone:
                continue
            except HookError as error:
                self.damaged[uuid] = error
                continue
            if not journal.names:
                self.blank.append(journal)
                continue
            self.journals[uuid] = journal
            for claim in journal.claims.values():
                self._index(journal, claim)

    def require_whole(self) -> None:
        """Raise HookError for a damaged journal."""
        for error in self.damaged.values():
            raise error

    def journal(self, uuid: str, vm: str) -> Journal:
        """The journal of a VM, a new one where it has none yet."""
        journal = self.journals.setdefault(uuid, self._folder.create(uuid, vm))
        journal.rename(vm)
        return journal

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
        return [
            claim
            for journal, number in self._by_key.get(key, ())
            if (claim := journal.claims[number]).state not in (State.UNDONE, State.LOST)
        ]

    def counting(self, knob: Knob, since: float = inf) -> list[Claim]:
        """The claims that a value comes of, oldest first: those on it, and of a VM that has none
        those on the value that it began with. Of the latter none with the number `since` or a
        higher one: it was there before these."""
        own = self.on(knob.key)
        above = self.on(knob.begins_as) if knob.begins_as else []
        if own and above and own[-1].base != above[-1].base:
            return own
        known = {claim.uuid for claim in own}
        inherited = [c for c in above if c.uuid not in known and c.number < since]
        return sorted([*own, *inherited], key=lambda claim: claim.number)

    def lose(self, key: str) -> None:
        """Give a value up to whoever changed it: every claim on it ends."""
        for claim in self.on(key):
            self.journals[claim.uuid].mark(claim, State.LOST)

    def unfinished(self) -> list[Journal]:
        """The journals of VMs whose last event was cut off by a crash."""
        return [journal for journal in self.journals.values() if journal.event is not None]

    def forget(self, uuid: str) -> None:
        """Reckon without a VM's claims, which something will have undone by then."""
        del self.journals[uuid]
        for keyed in self._by_key.values():
            keyed[:] = [entry for entry in keyed if entry[0].uuid != uuid]

    def _index(self, journal: Journal, claim: Claim) -> None:
        keyed = self._by_key.setdefault(claim.step.key, [])
        keyed.append((journal, claim.number))
        keyed.sort(key=lambda entry: entry[1])
        self._last = max(self._last, claim.number)


def holding(claims: list[Claim]) -> list[Share]:
    """The shares of the claims that have their value now."""
    return [claim.step.share for claim in claims if claim.state is State.HELD]
