"""How several VMs share one value of the host: the arithmetic of claims, with no I/O.

A value has a base, which is what the host had before any VM came, and the claims of the VMs
that want it changed, oldest first. `target` says what the value has to be. Every claim can go
at any time, in any order, and the value that stays is the one that would be there had the
claim never been made; that is why undo is arithmetic and not a pile of saved values.
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
    """The newest claim holds; when it goes, the one below it holds again: a governor."""

    value: str


@record
class Exclusive:
    """One VM at a time: a PCI function's driver. Without a value libvirt sets it, and the claim
    only sees to it that the host gets it back."""

    value: str | None = None


@record
class Subtract:
    """CPUs taken out of a set: what remains is the host's own less those of every VM.

    Where nothing would remain, `spare` says where to go instead: CPU lists, nearest first, of
    which the first that is not empty after the same subtraction is taken. CPUs that were `offline`
    at the time of the claim are none to be left with.
    """

    cpus: str
    spare: tuple[str, ...] = ()
    offline: str = ""


@record
class Only:
    """The CPUs that a set is to have, whatever is taken out of it for others: those of the VM that
    an interrupt belongs to."""

    cpus: str


@record
class Include:
    """CPUs put into a set: the host's own, and those of every VM."""

    cpus: str


@record
class Add:
    """A number put on top, as with hugepages: each VM adds and takes away its own."""

    count: int


@record
class AtLeast:
    """A number that must not be less, as of a network card's VFs: the highest claim holds."""

    count: int


@record
class Run:
    """Something done and its inverse, with no value to read: "done" and "undone"."""


@record
class Once:
    """Something that has no inverse: dropping caches, loading a module."""

    value: str


Share = Override | Exclusive | Subtract | Only | Include | Add | AtLeast | Run | Once

DONE, UNDONE = "done", "undone"


def target(base: str, shares: Sequence[Share]) -> str:
    """What a value has to be with these claims on it, oldest first; all are of one kind, but
    that there may be both Subtract and Only.

    `base` and the result are canonical text: a CPU list for Subtract and Include, a number for
    Add and AtLeast. Raises ValueError for a CPU set that would be left empty, spare sets included.
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
    """What a value may be with these claims on it and nobody else's hand in it. One that `is_reset`
    the kernel may have put back, to the host's own or to what one VM needs."""
    yield target(base, shares)
    if is_reset:
        yield base
        yield from (target(base, [share]) for share in shares)


def offline(shares: Sequence[Share]) -> str:
    """The CPUs that were offline at the time of any of these claims."""
    lists = (parse_list(share.offline) for share in shares if isinstance(share, Subtract))
    return format_list(frozenset().union(*lists))


def added(shares: Sequence[Share]) -> int:
    """What all the claims together put on top of the host's own number."""
    return sum(share.count for share in shares if isinstance(share, Add))


def without_each(shares: Sequence[Share]) -> list[list[Share]]:
    """For each claim, what does the same to a value as all the others together, and is one claim
    where these are of one kind; nothing where there is no other.

    As `target` wants them, oldest first. It takes a time linear in their number.
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
    """Whether the claim is on a value that can be read, compared and be another VM's too."""
    return not isinstance(share, Run | Once)


def shown(value: str) -> str:
    """A value for people; an empty value is spelled out."""
    return value or "(not set)"


def _named_without_each(shares: Sequence[Share]) -> list[str]:
    """The CPUs that all claims but each one name."""
    each = [parse_list(share.cpus) for share in shares if isinstance(share, Subtract | Include)]
    times = Counter(chain.from_iterable(each))
    every = frozenset(times)
    return [format_list(every - {cpu for cpu in cpus if times[cpu] == 1}) for cpus in each]


def _named(shares: Sequence[Share]) -> CpuSet:
    """The CPUs that the claims name together."""
    lists = (parse_list(share.cpus) for share in shares if isinstance(share, Subtract | Include))
    return CpuSet().union(*lists)
