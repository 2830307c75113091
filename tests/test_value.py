"""What a value has to be without a claim, and whose it is: the rare states that a cut-off undo and
other programs leave."""

import pytest

from tests.fakes.kernel import Kernel
from vfio_hooks.engine.journal import Claim, State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import Own, own_value
from vfio_hooks.engine.value import Value
from vfio_hooks.host import Host
from vfio_hooks.knobs import Knob
from vfio_hooks.knobs.file import File
from vfio_hooks.knobs.pages import Pages
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.record import replace
from vfio_hooks.sharing import Add, Exclusive, Override, Share
from vfio_hooks.steps import Step

ATOMIC = File("/proc/sys/vm/swappiness")
IN_STEPS = PciDriver("0000:04:00.0")
PAGES = Pages("/sys/pages")


def claim(knob: Knob, share: Share, base: str, state: State, number: int = 1) -> Claim:
    return Claim(number, "vm", "uuid", "prepare", 0, Step("test", knob, share), base, state)


@pytest.mark.parametrize(
    ("knob", "share", "base", "state", "live", "left"),
    [
        (ATOMIC, Override("7"), "60", State.HELD, "7", "60"),
        (ATOMIC, Override("7"), "60", State.HELD, "99", None),
        # The kernel may have made a third value of our write.
        (ATOMIC, Override("7"), "60", State.PENDING, "99", "60"),
        (ATOMIC, Exclusive("7"), "60", State.HELD, "99", None),
        # An undo that was cut off left the old value or the new one: this one is somebody else's.
        (ATOMIC, Override("7"), "60", State.UNDOING, "99", None),
        # Of what is changed in steps it may have left anything.
        (IN_STEPS, Exclusive("vfio-pci"), "bochs", State.UNDOING, "no driver", "bochs"),
        (IN_STEPS, Exclusive("vfio-pci"), "bochs", State.UNDOING, "nouveau", "bochs"),
        (IN_STEPS, Exclusive("vfio-pci"), "bochs", State.HELD, "nouveau", None),
        # libvirt left it without a driver.
        (IN_STEPS, Exclusive(), "bochs", State.HELD, "no driver", "bochs"),
        # Nothing has been written back yet.
        (ATOMIC, Override("7"), "60", State.UNDOING, "7", "60"),
        # A sum: all of ours, some of ours, none of ours, others' on top, others' taken away.
        (PAGES, Add(8), "10", State.PENDING, "18", "10"),
        (PAGES, Add(8), "10", State.PENDING, "13", "10"),
        (PAGES, Add(8), "10", State.PENDING, "10", "10"),
        (PAGES, Add(8), "10", State.PENDING, "19", "11"),
        (PAGES, Add(8), "10", State.HELD, "20", "12"),
        (PAGES, Add(8), "10", State.HELD, "8", "0"),
        (PAGES, Add(8), "10", State.HELD, "7", None),
    ],
)
def test_without_a_claim(
    knob: Knob, share: Share, base: str, state: State, live: str, left: str | None
) -> None:
    one = claim(knob, share, base, state)
    assert Value(live, [one], Kernel()).without(one) == left


@pytest.mark.parametrize(
    ("state", "goal", "live", "left"),
    [
        # What the undo that was cut off was going to write, as other VMs' claims were then.
        (State.UNDOING, "50", "50", "50"),
        (State.UNDOING, "50", "7", "50"),
        # The CPUs that it waits for are no value.
        (State.WAITING, "4-5", "7", "60"),
        (State.WAITING, "4-5", "60", "60"),
    ],
)
def test_without_a_claim_whose_undo_has_begun(
    state: State, goal: str, live: str, left: str
) -> None:
    one = replace(claim(ATOMIC, Override("7"), "60", state), goal=goal)
    assert Value(live, [one], Kernel()).without(one) == left


@pytest.mark.parametrize(
    ("live", "left"),
    # Between what the other VM's claim makes of it and what both make, more, and less than both.
    [("22", "14"), ("14", "14"), ("30", "22"), ("12", "4"), ("11", None)],
)
def test_a_sum_without_a_claim_that_was_cut_off(live: str, left: str | None) -> None:
    held = claim(PAGES, Add(4), "10", State.HELD, 1)
    pending = claim(PAGES, Add(8), "10", State.PENDING, 2)
    assert Value(live, [held, pending], Kernel()).without(pending) == left


class OneClaim(Ledger):
    """A ledger with nothing else in it."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim

    def counting(self, knob: Knob, host: Host, since: float = 0) -> list[Claim]:
        return [self._claim]


@pytest.mark.parametrize(
    ("knob", "share", "state", "live", "own"),
    [
        (ATOMIC, Override("7"), State.HELD, "7", Own("60", [Override("7")])),
        (ATOMIC, Override("7"), State.HELD, "99", Own("99", [], foreign=True)),
        (ATOMIC, Override("7"), State.HELD, "60", Own("60", [], foreign=True)),
        # Nobody knows what a write that was cut off made of it: it is taken for ours.
        (ATOMIC, Override("7"), State.PENDING, "99", Own("60", [])),
        (ATOMIC, Override("7"), State.UNDOING, "99", Own("60", [])),
        (PAGES, Add(8), State.HELD, "9", Own("1", [Add(8)])),
        (PAGES, Add(8), State.HELD, "8", Own("0", [Add(8)])),
        (PAGES, Add(8), State.HELD, "7", Own("7", [], foreign=True)),
    ],
)
def test_whose_a_value_is(knob: Knob, share: Share, state: State, live: str, own: Own) -> None:
    ledger = OneClaim(claim(knob, share, "60", state))
    assert own_value(ledger, Step("test", knob, share), live, Kernel()) == own


def test_what_all_claims_make_of_a_value_is_reckoned_once_for_each_base() -> None:
    """A value of somebody else's is nobody's of several VMs: each is told so."""
    claims = [
        claim(ATOMIC, Override(value), base, State.HELD, number)
        for number, (value, base) in enumerate([("7", "60"), ("8", "60"), ("9", "50")], 1)
    ]
    value = Value("99", claims, Kernel())
    assert [value.without(one) for one in claims] == [None, None, None]
    value = Value("9", claims, Kernel())
    assert [value.without(one) for one in claims] == ["9", "9", "8"]


def test_claims_that_are_not_held_leave_what_the_held_ones_want() -> None:
    held = claim(ATOMIC, Override("7"), "60", State.HELD, 1)
    others = [claim(ATOMIC, Override("8"), "60", State.PENDING, number) for number in (2, 3)]
    value = Value("8", [held, *others], Kernel())
    assert [value.without(one) for one in others] == ["7", "7"]
