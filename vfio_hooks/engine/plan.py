"""A whole plan: what every step would change, and what must not be in one plan at all."""

from __future__ import annotations

from math import inf

from vfio_hooks import RUNNING
from vfio_hooks.engine.journal import Claim, State
from vfio_hooks.engine.ledger import Ledger, holding
from vfio_hooks.errors import Gone, HookError, of_table, raise_all
from vfio_hooks.record import record
from vfio_hooks.sharing import (
    Add,
    AtLeast,
    Exclusive,
    Include,
    Once,
    Only,
    Override,
    Run,
    Share,
    Subtract,
    added,
    is_shared,
    offline,
    target,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from vfio_hooks.host import Host
    from vfio_hooks.knobs.base import Knob
    from vfio_hooks.steps import Step

TO_COME = "does not exist yet"


@record
class Change:
    """What one step does to its value, and what its undo will do; or the `problem` because of which
    a step that is not required is left out."""

    step: Step
    old: str
    new: str
    undo: str
    problem: str = ""

    def __str__(self) -> str:
        if self.problem:
            return f"left out: {self.problem}"
        return self.step.knob.told or f"{self.step.key}: {self._values()}"

    def _values(self) -> str:
        old, new = map(self.step.knob.shows, (self.old, self.new))
        if not is_shared(self.step.share):
            return new
        if isinstance(self.step.share, Exclusive) and self.step.share.value is None:
            return self.step.knob.lends(self.old)
        return f"{old} (stays)" if self.old == self.new else f"{old} → {new}"


def check(steps: Sequence[Step], uuid: str, ledger: Ledger, host: Host) -> None:
    """Raise HookError for a plan that contradicts itself or takes what another VM has.

    This runs before anything is touched.
    """
    planned: dict[str, Step] = {}
    for step in steps:
        first = planned.setdefault(step.key, step)
        if first is not step:
            _check_pair(first, step)
        for claim in ledger.on(step.key):
            if not _fit(claim.step.share, step.share):
                raise HookError(
                    f"{step.key}: {step.plugin} needs another value than {claim.step.plugin} of "
                    f"VM {claim.vm}, which has set it",
                    f"shut down {claim.vm}, or remove the table from one of the two vm.toml files",
                )
            if (
                claim.uuid != uuid
                and _excludes(claim.step.share, step.share)
                and not is_detached(claim, ledger, host)
            ):
                raise HookError(
                    f"{step.knob.owner}: VM {claim.vm} has it",
                    f"shut down {claim.vm}; if it is not running: vfio-hooks undo {claim.vm}",
                )


def is_detached(claim: Claim, ledger: Ledger, host: Host) -> bool:
    """Whether a device was detached from a running VM, for which libvirt calls no hook: it is the
    host's again. Before the guest has started, a device may be the host's and yet be meant for that
    guest. The journal need not say that it has started, but libvirt's own file of the guest
    does."""
    journal = ledger.find(claim.uuid)
    has_started = journal is not None and journal.has_started
    return (
        (has_started or host.exists(f"{RUNNING}/{claim.vm}.xml"))
        and claim.state is State.HELD
        and claim.step.knob.is_back(host, claim.base)
    )


def preview(steps: Sequence[Step], host: Host, ledger: Ledger) -> list[Change]:
    """What the steps would do one after the other, without doing any of them.

    Raises HookError for the first required step of each table that cannot be done: its value does
    not exist, or no CPU would be left in a set.
    """
    ahead: dict[str, list[Share]] = {}
    wrong: dict[str, HookError] = {}
    changes = []
    for step in steps:
        earlier = ahead.setdefault(step.key, [])
        try:
            changes.append(_change(step, host, ledger, earlier, ahead.keys()))
        except HookError as error:
            if is_over(step, error):
                continue
            if step.required:
                wrong.setdefault(step.plugin, of_table(error, step.plugin))
            changes.append(Change(step, "", "", "", str(error)))
        else:
            earlier.append(step.share)
    raise_all([*wrong.values()])
    return changes


def is_over(step: Step, error: HookError) -> bool:
    """Whether a step failed only because its thread or program has ended, as these do."""
    return isinstance(error, Gone) and step.knob.is_brief and not step.required


def _change(
    step: Step, host: Host, ledger: Ledger, ahead: list[Share], makers: Container[str]
) -> Change:
    """What a step would do after the shares that are `ahead` of it on the same value in this plan.
    `makers` are the keys of steps that may make what it is about."""
    if not is_shared(step.share):
        return Change(step, "", target("", [step.share]), undo_text(step, ""))
    try:
        known = ledger.ahead.get(step.key)
        live = step.knob.read(host) if known is None else known
    except Gone as error:
        if not step.awaits:
            raise
        return _to_come(step, error, makers)
    own = own_value(ledger, step, live, host)
    earlier = [*own.shares, *ahead]
    try:
        old = target(own.base, earlier) if ahead else live
        new = target(own.base, [*earlier, step.share])
    except ValueError as error:
        raise HookError(f"{step.key}: {error}", "leave at least one CPU to the host") from None
    return Change(step, old, new, undo_text(step, own.base))


def _to_come(step: Step, error: Gone, makers: Container[str]) -> Change:
    """What a step would do to something that only the plan itself will make."""
    if step.awaits not in makers:
        raise HookError(
            error.problem, f"it would exist only after {step.awaits} is set, which nothing does"
        )
    return Change(step, TO_COME, target(TO_COME, [step.share]), undo_text(step, TO_COME))


@record
class Own:
    """The host's own value below all claims, and the shares of the claims that still hold on it.
    `foreign`: somebody else has changed it since, so the value is theirs and the claims are
    over."""

    base: str
    shares: list[Share]
    foreign: bool = False


def own_value(ledger: Ledger, step: Step, live: str, host: Host, since: float = inf) -> Own:
    """Separate the host's own part of a live value from the VMs' part. `since` is the number of
    this plan's first claim, if a part of the plan is carried out already."""
    claims = ledger.counting(step.knob, host, since)
    if not claims:
        return Own(step.knob.own(live, host), [])
    base, shares = claims[-1].base, holding(claims)
    if all(claim.step.key != step.key for claim in claims):
        return _inherited(step.knob, base, shares, live, host)
    cut_off = any(claim.state is not State.HELD for claim in claims)
    if cut_off or step.knob.is_ours(live, base, shares, host):
        return Own(base, shares)
    if isinstance(step.share, Add) and (rest := int(live) - added(shares)) >= 0:
        # A number can be raised by several: only the difference is somebody else's.
        return Own(str(rest), shares)
    return Own(step.knob.own(live, host), [], foreign=True)


def _inherited(knob: Knob, base: str, shares: list[Share], live: str, host: Host) -> Own:
    """The same for a value without claims that began as another value, which has some."""
    for own in (base, knob.begun(base, host)):
        if knob.has_begun(live, target(own, shares), offline(shares), host):
            return Own(own, shares)
    return Own(knob.own(live, host), [])


def undo_text(step: Step, base: str) -> str:
    """How a step will be undone, for people."""
    match step.share:
        case Once():
            return step.knob.left
        case Run():
            return step.knob.undo_text
        case Override() | Exclusive():
            was = step.knob.shows(base)
            return f"back to {was}, unless another VM or somebody else has it by then"
        case Only(cpus):
            return f"back to {base}, except CPUs that belong to other VMs"
        case Subtract(cpus):
            return f"CPUs {cpus} come back, except those that belong to other VMs"
        case Include(cpus):
            return f"CPUs {cpus} go, except those that belong to other VMs"
        case AtLeast():
            return f"back to {base} when no VM needs more"
        case Add(count):  # pragma: no branch  # the last kind
            return f"{count} are removed again"


def _fit(first: Share, second: Share) -> bool:
    """Whether the two can be claims on the same value."""
    of_sets = isinstance(first, Subtract | Only) and isinstance(second, Subtract | Only)
    return of_sets or type(first) is type(second)


def _check_pair(first: Step, second: Step) -> None:
    if isinstance(first.share, Add | Subtract | Include | Run | Once) and type(first.share) is type(
        second.share
    ):
        return
    if first.share == second.share:
        return
    if isinstance(first.share, AtLeast) and isinstance(second.share, AtLeast):
        if not _excludes(first.share, second.share):
            return
        raise HookError(
            f"{first.key}: at least {first.share.count} are asked for first, and then "
            f"{second.share.count}",
            f"ask for {second.share.count} in the first table as well",
        )
    raise HookError(
        f"{first.key}: {first.plugin} and {second.plugin} need different values",
        "remove the table of one of them from vm.toml",
    )


def _excludes(held: Share, wanted: Share) -> bool:
    """Whether a VM that holds the first keeps another VM from getting the second. The number of VFs
    can only grow by being 0 in between, which would take away what the first VM has."""
    if isinstance(held, AtLeast) and isinstance(wanted, AtLeast):
        return wanted.count > held.count
    return isinstance(wanted, Exclusive)
