"""What a value would be without one of the claims on it."""

from __future__ import annotations

from vfio_hooks.engine.journal import Claim, State
from vfio_hooks.engine.ledger import holding
from vfio_hooks.sharing import Add, Exclusive, Share, added, target, without_each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from vfio_hooks.host import Host
    from vfio_hooks.knobs import Knob


class Value:
    """A value of the host as it is now, `live`, with the claims that count on it, oldest first."""

    def __init__(self, live: str, claims: Sequence[Claim], host: Host) -> None:
        self.live = live
        self._host = host
        self._claims = claims
        held = [claim.number for claim in claims if claim.state is State.HELD]
        self._shares = holding(claims)
        self._others = dict(zip(held, without_each(self._shares), strict=True))
        """For each held claim, shares that do the same as all other held claims together."""
        self._cut_off = len(held) < len(claims)
        # The kernel may have turned a write into a value that nobody asked for.
        self._unsure = any(claim.state is State.PENDING for claim in claims)
        self._wanted: dict[str, str] = {}
        self._is_wanted: dict[str, bool] = {}

    def wanted(self, base: str) -> str:
        """What the value has to be with all held claims, if the host's own value is `base`."""
        if base not in self._wanted:
            self._wanted[base] = target(base, self._shares)
        return self._wanted[base]

    def shows(self, knob: Knob, value: str) -> bool:
        """Whether the live value is what a write of `value` leaves."""
        return knob.same(self.live, value, self._host)

    def without(self, claim: Claim) -> str | None:
        """What the value has to be without this claim; None if it is no longer ours."""
        step, live = claim.step, self.live
        goal = claim.goal
        if goal is None or claim.state is State.WAITING:
            # Other VMs may have started or ended while it waited.
            goal = self._left(claim)
        if isinstance(step.share, Add):
            ours = added(self._with(claim))
            return _goal_of_sum(claim, step.share.count, int(live), int(goal), ours)
        if self.shows(step.knob, goal) or self._is_made(claim):
            return goal
        if self._unsure or (self._cut_off and not step.knob.atomic):
            return goal
        if isinstance(step.share, Exclusive) and step.knob.is_lent(
            live, claim.base, step.share.value
        ):
            return goal
        return None

    def _left(self, claim: Claim) -> str:
        """What the value has to be with the other claims."""
        if claim.number not in self._others:
            return self.wanted(claim.base)
        return target(claim.base, self._others[claim.number])

    def _is_made(self, claim: Claim) -> bool:
        """Whether this claim and the others can explain the live value."""
        if claim.number not in self._others:
            return self._is_known(claim, self._with(claim))
        if claim.base not in self._is_wanted:
            self._is_wanted[claim.base] = self._is_known(claim, self._shares)
        return self._is_wanted[claim.base]

    def _is_known(self, claim: Claim, shares: Sequence[Share]) -> bool:
        return claim.step.knob.is_ours(self.live, claim.base, shares, self._host)

    def _with(self, claim: Claim) -> list[Share]:
        if claim.number in self._others:
            return self._shares
        both = (one for one in self._claims if one is claim or one.number in self._others)
        return [one.step.share for one in both]


def _goal_of_sum(claim: Claim, count: int, live: int, goal: int, ours: int) -> str | None:
    """What a number has to be without this claim's part. Changes by others stay in it."""
    if claim.state is not State.HELD and goal <= live <= goal + count:
        return str(goal)
    return str(live - count) if live >= ours else None
