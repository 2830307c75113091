"""CPU sets in both of the kernel's notations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfio_hooks.host.cpulist import format_list, format_mask, parse_list, parse_mask

CPUS = st.frozensets(st.integers(0, 1100))


@pytest.mark.parametrize("text", ["", "g", "f f", "ff;ff"])
def test_what_is_no_mask(text: str) -> None:
    with pytest.raises(ValueError, match="is not a hex CPU mask"):
        parse_mask(text)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", set()),
        ("0", {0}),
        ("0-3,8", {0, 1, 2, 3, 8}),
        (" 4-5 , 7\n", {4, 5, 7}),
        ("0-7,^2-3,^6", {0, 1, 4, 5, 7}),
        ("^3,0-3", {0, 1, 2, 3}),
        ("0-3,^3,3", {0, 1, 2, 3}),
        ("65535", {65535}),
    ],
)
def test_lists(text: str, cpus: set[int]) -> None:
    assert parse_list(text) == cpus


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "1--2", "0x3", "1;2", "65536", "0-65536"])
def test_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (CPU list|range of CPUs)"):
        parse_list(text)


@pytest.mark.parametrize(
    ("mask", "cpus"),
    [
        ("0", ""),
        ("ff", "0-7"),
        ("fcfc", "2-7,10-15"),
        ("1,00000000", "32"),
        ("80000000,00000000,00000001", "0,95"),
        ("0xff", "0-7"),
    ],
)
def test_masks(mask: str, cpus: str) -> None:
    assert format_list(parse_mask(mask)) == cpus
    assert format_mask(parse_list(cpus)) == mask.removeprefix("0x")


@given(CPUS)
def test_both_notations_keep_every_cpu(cpus: frozenset[int]) -> None:
    assert parse_list(format_list(cpus)) == cpus
    assert parse_mask(format_mask(cpus)) == cpus
