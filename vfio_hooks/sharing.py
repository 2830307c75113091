"""How several VMs share one value of the host: the arithmetic of claims, with no I/O.

A value has a base, which the host had before any VM changed it, and the claims of the VMs that want
it changed, oldest first. `target` says what the value has to be. Claims can end at any time and in
any order. The value is then what it would be if the claim had never been made. That is why undo is
arithmetic and not a pile of saved values.
"""

from __future__ import annotations

from collections import Counter
from itertools import chain

from vfio_hooks.host.cpulist import CpuSet, format_list, parse_list
from vfio_hooks.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@record
class Override:
    """The newest claim holds. When it ends, the one before it holds again. Example: a governor."""

    value: str


@record
class Exclusive:
    """One VM at a time. Example: a PCI function's driver. Without a `value`, libvirt sets it, and
    the claim only makes sure that the host gets the old one back."""

    value: str | None = None


@record
class Subtract:
    """CPUs taken out of a set: the host's own CPUs remain, without those of every VM.

    If nothing would remain, `spare` says what to use instead: CPU lists, nearest first. The first
    that is not empty after the same subtraction is used. CPUs that were `offline` at the time of
    the claim do not count as remaining. All are CPU lists, "0-3,8".
    """

    cpus: str
    spare: tuple[str, ...] = ()
    offline: str = ""


@record
class Only:
    """The CPUs that a set gets, whatever other claims take out of it. Example: an interrupt of a
    VM's own device, which goes to the VM's CPUs."""

    cpus: str


@record
class Include:
    """CPUs added to a set: the host's own, and those of every VM."""

    cpus: str


@record
class Add:
    """A number added to the host's own. Example: hugepages, of which each VM adds and removes its
    own."""

    count: int


@record
class AtLeast:
    """A number that must not be smaller: the highest claim holds. Example: a card's VFs."""

    count: int


@record
class Run:
    """Something that is done and undone, and has no value to read: "done" and "undone"."""


@record
class Once:
    """Something that is not undone: dropping caches, loading a module."""

    value: str


Share = Override | Exclusive | Subtract | Only | Include | Add | AtLeast | Run | Once

DONE, UNDONE = "done", "undone"


def target(base: str, shares: Sequence[Share]) -> str:
    """What a value has to be with these claims on it, oldest first. All are of one kind, except
    that Subtract and Only may be mixed.

    `base` and the result are canonical text: a CPU list for Subtract, Only and Include, a number
    for Add and AtLeast. Raises ValueError if a CPU set and all its spare sets would be empty.
    """
    if not shares:
        return base
    newest = next((share for share in reversed(shares) if isinstance(share, Only)), shares[-1])
    match newest:
        case Only(cpus):
            return cpus
        case Override(value) | Once(value):
            return value
        case Exclusive(value):
            return base if value is None else value
        case Add():
            return str(int(base) + added(shares))
        case AtLeast():
            wanted = (share.count for share in shares if isinstance(share, AtLeast))
            return str(max(int(base), *wanted))
        case Run():
            return DONE
        case Include():
            return format_list(parse_list(base) | _named(shares))
        case Subtract(spare=spare, offline=offline):  # pragma: no branch  # the last kind
            taken = _named(shares)
            for cpus in (base, *spare):
                left = parse_list(cpus) - taken
                if left - parse_list(offline):
                    return format_list(left)
            raise ValueError(f"no CPU would be left of {shown(base)} without {format_list(taken)}")


def known_values(base: str, shares: Sequence[Share], is_reset: bool) -> Iterator[str]:
    """The values that these claims can explain without anybody else's change. If `is_reset`, the
    kernel may have put the value back, to the host's own or to what one of the VMs needs."""
    yield target(base, shares)
    if is_reset:
        yield base
        yield from (target(base, [share]) for share in shares)


def offline(shares: Sequence[Share]) -> str:
    """The CPUs that were offline when any of these claims was made, as a CPU list."""
    lists = (parse_list(share.offline) for share in shares if isinstance(share, Subtract))
    return format_list(frozenset().union(*lists))


def added(shares: Sequence[Share]) -> int:
    """What all the claims together add to the host's own number."""
    return sum(share.count for share in shares if isinstance(share, Add))


def without_each(shares: Sequence[Share]) -> list[list[Share]]:
    """For each claim, shares that do the same to a value as all the other claims together: a single
    share if these are all of one kind, and none if there is no other claim.

    They are in the order that `target` needs, oldest first. The time is linear in their number.
    """
    if len(shares) < 2:
        return [[] for _ in shares]
    newest = [shares[-1]] * (len(shares) - 1) + [shares[-2]]
    if len({*map(type, shares)}) > 1:
        return [[*shares[:place], *shares[place + 1 :]] for place in range(len(shares))]
    match shares[-1]:
        case Subtract() | Include():
            named = zip(newest, _named_without_each(shares), strict=True)
            return [[replace(other, cpus=cpus)] for other, cpus in named]
        case Add():
            total = added(shares)
            return [[Add(total - share.count)] for share in shares if isinstance(share, Add)]
        case AtLeast():
            counts = [share.count for share in shares if isinstance(share, AtLeast)]
            second, highest = sorted(counts)[-2:]
            return [[AtLeast(second if count == highest else highest)] for count in counts]
        case _:
            return [[other] for other in newest]


def is_shared(share: Share) -> bool:
    """Whether the claim is on a value that can be read and compared, and shared with other VMs."""
    return not isinstance(share, Run | Once)


def shown(value: str) -> str:
    """A value for people; an empty value is spelled out."""
    return value or "(not set)"


def _named_without_each(shares: Sequence[Share]) -> list[str]:
    """For each claim, the CPUs that all the other claims name."""
    each = [parse_list(share.cpus) for share in shares if isinstance(share, Subtract | Include)]
    times = Counter(chain.from_iterable(each))
    every = frozenset(times)
    return [format_list(every - {cpu for cpu in cpus if times[cpu] == 1}) for cpus in each]


def _named(shares: Sequence[Share]) -> CpuSet:
    """The CPUs that the claims name together."""
    lists = (parse_list(share.cpus) for share in shares if isinstance(share, Subtract | Include))
    return CpuSet().union(*lists)
