"""What the claims of several VMs make of one value, kind by kind."""

import pytest

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
    known_values,
    offline,
    shown,
    target,
    without_each,
)


@pytest.mark.parametrize(
    ("base", "shares", "value"),
    [
        ("60", [], "60"),
        ("60", [Override("10"), Override("20")], "20"),
        ("nvidia", [Exclusive("vfio-pci")], "vfio-pci"),
        ("nvidia", [Exclusive()], "nvidia"),
        ("nvidia", [Exclusive("")], ""),
        ("", [Once("loaded")], "loaded"),
        ("", [Run()], "done"),
        ("4", [Add(2), Add(3)], "9"),
        ("4", [Add(-4)], "0"),
        ("3", [AtLeast(2)], "3"),
        ("3", [AtLeast(9), AtLeast(5)], "9"),
        ("0-3", [Include("8"), Include("3-4")], "0-4,8"),
        ("0-7", [Subtract("4-5"), Subtract("7")], "0-3,6"),
        # A CPU that was not in the set cannot be taken from it.
        ("0-3", [Subtract("3-9")], "0-2"),
        # The first spare set of which something is left; the newest claim's count.
        ("4-5", [Subtract("4-7", ("6-7", "4-8", "0-3"))], "8"),
        ("4-5", [Subtract("4-7", ("9",)), Subtract("6", ("6-7", "2"))], "2"),
        # Offline CPUs stay in a set, but it also needs one that is online.
        ("0-3", [Subtract("0-1", offline="3")], "2-3"),
        ("0-3", [Subtract("0-2", ("3-4",), offline="3")], "3-4"),
        ("0-3", [Subtract("0-1", ("5",), offline="2-3")], "5"),
        # The CPUs of the VM that an interrupt belongs to, whatever is taken away for others.
        ("0-7", [Only("6-7"), Subtract("4-7")], "6-7"),
        ("0-7", [Only("6-7"), Only("2"), Subtract("4-7")], "2"),
    ],
)
def test_what_claims_make_of_a_value(base: str, shares: list[Share], value: str) -> None:
    assert target(base, shares) == value


@pytest.mark.parametrize(
    ("base", "shares", "told"),
    [
        ("4-7", [Subtract("4-5"), Subtract("6-7")], "no CPU would be left of 4-7 without 4-7"),
        ("4", [Subtract("0-4", ("0", "1-2"))], "no CPU would be left of 4 without 0-4"),
        ("", [Subtract("4")], r"no CPU would be left of \(not set\) without 4"),
        ("0-3", [Subtract("0", offline="1-3")], "no CPU would be left of 0-3 without 0"),
    ],
)
def test_no_cpu_is_left(base: str, shares: list[Share], told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}$"):
        target(base, shares)


def test_what_the_kernel_may_put_back_shows_fewer_claims() -> None:
    shares = [Subtract("4-5"), Subtract("7")]
    assert [*known_values("0-7", shares, is_reset=False)] == ["0-3,6"]
    assert [*known_values("0-7", shares, is_reset=True)] == ["0-3,6", "0-7", "0-3,6-7", "0-6"]


def test_sums_and_sets_are_over_the_claims_of_their_kind() -> None:
    assert added([]) == 0
    assert added([Add(2), Override("9"), Add(5)]) == 7
    assert offline([]) == ""
    assert offline([Subtract("1", offline="4"), Only("2"), Subtract("1", offline="6-7")]) == "4,6-7"


@pytest.mark.parametrize(
    ("shares", "others"),
    [
        ([], []),
        ([Run()], [[]]),
        ([Override("a"), Override("b")], [[Override("b")], [Override("a")]]),
        (
            [Exclusive("a"), Exclusive("b"), Exclusive()],
            [[Exclusive()], [Exclusive()], [Exclusive("b")]],
        ),
        ([Add(1), Add(2), Add(4)], [[Add(6)], [Add(5)], [Add(3)]]),
        ([AtLeast(4), AtLeast(7)], [[AtLeast(7)], [AtLeast(4)]]),
        # Two that are equal: when one goes, the other still asks for as much.
        (
            [AtLeast(7), AtLeast(2), AtLeast(7)],
            [[AtLeast(7)], [AtLeast(7)], [AtLeast(7)]],
        ),
        (
            [Subtract("1-2", ("8",), "9"), Subtract("2-3", ("6",), "7")],
            [[Subtract("2-3", ("6",), "7")], [Subtract("1-2", ("8",), "9")]],
        ),
        (
            [Include("1-2"), Include("2-3"), Include("3-4")],
            [[Include("2-4")], [Include("1-4")], [Include("1-3")]],
        ),
        (
            [Subtract("1"), Only("2"), Subtract("3")],
            [
                [Only("2"), Subtract("3")],
                [Subtract("1"), Subtract("3")],
                [Subtract("1"), Only("2")],
            ],
        ),
    ],
)
def test_what_stands_for_all_other_claims(shares: list[Share], others: list[list[Share]]) -> None:
    assert without_each(shares) == others


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (Run(), False),
        (Once("1"), False),
        (Add(1), True),
        (AtLeast(1), True),
        (Exclusive(), True),
        (Include("1"), True),
        (Only("1"), True),
        (Override("1"), True),
        (Subtract("1"), True),
    ],
)
def test_which_claims_are_on_a_value_that_others_share(share: Share, expected: bool) -> None:
    assert is_shared(share) is expected


def test_an_empty_value_is_spelled_out() -> None:
    assert shown("") == "(not set)"
    assert shown("0") == "0"
