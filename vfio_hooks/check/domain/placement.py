"""Where the domain is placed: the findings of the room for placement, as rules."""

from collections.abc import Iterator

from vfio_hooks.check.domain.rule import guest_rule
from vfio_hooks.check.rule import Guest, Patient, Rule, Seen
from vfio_hooks.errors import HookError
from vfio_hooks.placement.kinds import KINDS, Kind


def _rule(name: str, kind: Kind) -> Rule:
    @guest_rule(name, kind.level, why=kind.why, source=kind.source, sure=kind.sure)
    def look(patient: Patient, guest: Guest) -> Iterator[Seen]:
        try:
            found = patient.faults
        except HookError:
            # That the host shows no CPU is a finding of its own.
            if name != _FIRST:
                return
            raise
        yield from (Seen(one.text, one.do, one.edits) for one in found if one.name == name)

    return look


_FIRST = next(iter(KINDS))
RULES = tuple(_rule(name, kind) for name, kind in KINDS.items())
