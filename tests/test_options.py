"""TOML values as Python types: what fits, what does not, and how it is said."""

import tomllib
from dataclasses import dataclass, field
from typing import Any, Literal, Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vfio_hooks.config.options import Key, choices, describe, fit, keys, show

FITS = [
    ('"a"', str, "a"),
    ("3", int, 3),
    ("-9223372036854775808", int, -(2**63)),
    ("3", float, 3.0),
    ("2.5", float, 2.5),
    ("true", bool, True),
    ('"b"', Literal["a", "b"], "b"),
    ("1", Literal[1, "auto"], 1),
    ('["x", "y"]', tuple[str, ...], ("x", "y")),
    ("[]", tuple[int, ...], ()),
    ("[[1], []]", tuple[tuple[int, ...], ...], ((1,), ())),
    ('"x"', str | None, "x"),
    ("4", Optional[int], 4),  # noqa: UP045
    ('"auto"', int | Literal["auto"], "auto"),
    ('{ "vm.swappiness" = "1" }', dict[str, str], {"vm.swappiness": "1"}),
    ("{ a = 1, b = 'x' }", dict[str, int | str], {"a": 1, "b": "x"}),
]


@pytest.mark.parametrize(("toml", "kind", "value"), FITS)
def test_fits(toml: str, kind: Any, value: object) -> None:
    found = fit(tomllib.loads(f"key = {toml}")["key"], kind)
    assert (found, type(found)) == (value, type(value))


MISFITS = [
    ("1", str, "a string"),
    ("true", int, "a whole number"),
    ("1.0", int, "a whole number"),
    ("9223372036854775808", int, "a whole number"),
    ("false", float, "a number"),
    ("inf", float, "a number"),
    ("1" + "0" * 400, float, "a number"),
    ("1", bool, "true or false"),
    ("true", Literal[1, "auto"], '1 or "auto"'),
    ('"c"', Literal["a", "b", "d"], '"a", "b" or "d"'),
    ('"x"', tuple[str, ...], "a list of strings"),
    ('["x"]', tuple[int, ...], "a list of whole numbers"),
    ("[true]", tuple[float, ...], "a list of numbers"),
    ('["x"]', tuple[tuple[int, ...], ...], "a list of lists of whole numbers"),
    ("1", str | None, "a string"),
    ("[]", int | Literal["auto"] | None, 'a whole number or "auto"'),
    ("{ a = 1 }", dict[str, str], "a table of strings"),
]


@pytest.mark.parametrize(("toml", "kind", "allowed"), MISFITS)
def test_does_not_fit(toml: str, kind: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=r"^not "):
        fit(tomllib.loads(f"key = {toml}")["key"], kind)
    assert describe(kind) == allowed


SCALARS = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text()
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5
)
KINDS = st.sampled_from([kind for _, kind, _ in (*FITS, *MISFITS)])


@given(VALUES, KINDS)
def test_what_fits_keeps_its_value_and_no_bool_becomes_a_number(value: object, kind: Any) -> None:
    try:
        found = fit(value, kind)
    except ValueError:
        return
    if isinstance(value, list):
        assert list(found) == [tuple(v) if isinstance(v, list) else v for v in value]
    else:
        assert found == (float(str(value)) if kind is float else value)
        assert isinstance(found, bool) == isinstance(value, bool)


@given(VALUES)
@example("\x85\u2028\x9b31m\n")
def test_a_value_is_shown_in_a_line_that_is_not_long(value: object) -> None:
    assert len(show(value)) <= 61
    assert show(value).isprintable()


@dataclass(frozen=True)
class Sample:
    user: str
    off: "tuple[str, ...]" = ()
    made: list[str] = field(default_factory=list)
    inner: int = field(default=0, init=False)


def test_keys_are_the_fields_and_required_where_there_is_no_default() -> None:
    assert keys(Sample) == {
        "user": Key(str, True),
        "off": Key(tuple[str, ...], False),
        "made": Key(list[str], False),
    }


def test_a_type_that_toml_cannot_give_is_a_defect_of_the_plugin() -> None:
    with pytest.raises(TypeError, match="not a type that a TOML key can have"):
        fit(1, list[str])


def test_choices_are_only_named_where_there_are_no_other_strings() -> None:
    assert choices(Literal["a", "b"] | int) == ["a", "b"]
    assert choices(Literal["a"] | str) == []
    assert choices(str) == []
