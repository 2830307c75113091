"""Records are what frozen dataclasses are."""

import copy
import dataclasses
import pickle
from functools import cached_property
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.imports import imported
from vfio_hooks.record import MISSING, asdict, field, fields, record, replace

pytestmark = pytest.mark.real_processes
Spec = list[tuple[str, str]]
"""Names of fields, and what each has: nothing, a default, a factory, or no say in comparisons."""

NAMES = st.sampled_from(["a", "b", "c", "of", "self", "name"])
KINDS = st.sampled_from(["nothing", "default", "factory", "uncompared"])
SPECS = st.lists(st.tuples(NAMES, KINDS), max_size=4, unique_by=lambda pair: pair[0])
VALUES = st.sampled_from([0, 1, True, "x", (), (1,), float("nan")])
CALLS = st.tuples(st.lists(VALUES, max_size=5), st.dictionaries(NAMES, VALUES, max_size=4))


def build(make: Any, given_field: Any, *specs: Spec) -> type[Any]:
    """A class, and those that it inherits from, made by one of the two libraries."""
    made: type[Any] = object
    for spec in specs:
        content: dict[str, Any] = {"__annotations__": {name: int for name, _ in spec}}
        content["__annotations__"]["shared"] = ClassVar[int]
        for name, kind in spec:
            if kind == "default":
                content[name] = 7
            elif kind == "factory":
                content[name] = given_field(default_factory=lambda: "new")
            elif kind == "uncompared":
                content[name] = given_field(default=8, compare=False)
        made = make(type("Made", (made,), content))
    return made


def ordered(*specs: Spec) -> bool:
    """Whether no field without a default comes after one with: mypy tells of that."""
    kinds: dict[str, str] = {}
    for spec in specs:
        kinds.update(spec)
    flags = [kind != "nothing" for kind in kinds.values()]
    return flags == sorted(flags)


def called(make: type[Any], call: tuple[list[Any], dict[str, Any]]) -> Any:
    values, named = call
    try:
        return make(*values, **named)
    except TypeError:
        return TypeError


@given(
    st.tuples(SPECS, SPECS).filter(lambda specs: ordered(*specs) and ordered(specs[0])),
    CALLS,
    CALLS,
)
def test_records_are_what_dataclasses_are(
    specs: tuple[Spec, Spec], one: tuple[list[Any], dict[str, Any]], two: Any
) -> None:
    ours = build(record, field, *specs)
    theirs = build(dataclasses.dataclass(frozen=True), dataclasses.field, *specs)
    assert [one.name for one in fields(ours)] == [one.name for one in dataclasses.fields(theirs)]
    assert ours.__match_args__ == theirs.__match_args__
    first, other = called(ours, one), called(theirs, one)
    assert (first is TypeError) == (other is TypeError)
    if first is TypeError:
        return
    assert repr(first) == repr(other)
    assert asdict(first) == dataclasses.asdict(other)
    assert hash(first) == hash(other)
    second, another = called(ours, two), called(theirs, two)
    assert (first == second) == (other == another)
    assert (first in {second}) == (other in {another})


@record
class Point:
    """With all that a record may have."""

    kind: ClassVar[str] = "point"
    x: int
    y: int = 0
    tags: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is less than 0")

    @cached_property
    def total(self) -> int:
        return self.x + self.y


@record
class Named(Point):
    kind: ClassVar[str] = "named"
    y: int = 5
    name: str = ""

    def __repr__(self) -> str:
        return f"<{self.name}>"


def test_a_record_is_frozen() -> None:
    point = Point(1)
    for name in ("x", "new"):
        with pytest.raises(AttributeError):
            setattr(point, name, 2)
        with pytest.raises(AttributeError):
            delattr(point, name)
    assert point == Point(1)


def test_a_factory_makes_a_new_one_each_time() -> None:
    assert Point(1).tags is not Point(1).tags
    assert not hasattr(Point, "tags")


def test_a_check_after_the_initializer() -> None:
    with pytest.raises(ValueError, match="less than 0"):
        Named(-1)


def test_inheritance() -> None:
    assert repr(Named(1, name="n")) == "<n>"
    assert Named(1) != Point(1, 5)
    assert [one.name for one in fields(Named(1))] == ["x", "y", "tags", "name"]
    assert [one.required for one in fields(Named)] == [True, False, False, False]
    assert (Named.kind, Named(1).y) == ("named", 5)


def test_what_is_remembered_is_no_part_of_it() -> None:
    one, other = Point(1, 2), Point(1, 2)
    assert one.total == 3
    assert one == other
    assert replace(one, y=4).total == 5
    assert "total" not in asdict(one)


def test_replacing() -> None:
    assert replace(Named(1, name="n"), x=3) == Named(3, name="n")
    with pytest.raises(TypeError):
        replace(Point(1), z=1)
    with pytest.raises(ValueError, match="less than 0"):
        replace(Point(1), x=-1)


def test_patterns() -> None:
    match Named(1, 2):
        case Named(x, y, name=name):
            assert (x, y, name) == (1, 2, "")
        case _:
            pytest.fail("no match")


def test_copies() -> None:
    point = Point(1, tags={"a": 1})
    for other in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert other == point


def test_a_dictionary_of_records_in_records() -> None:
    @record
    class Outer:
        inside: tuple[Any, ...]
        named: dict[str, Point]

    assert asdict(Outer((Point(1), [Point(2)], 3), {"a": Point(4)})) == {
        "inside": (
            {"x": 1, "y": 0, "tags": {}},
            [{"x": 2, "y": 0, "tags": {}}],
            3,
        ),
        "named": {"a": {"x": 4, "y": 0, "tags": {}}},
    }


def test_the_fields_of_a_dataclass() -> None:
    @dataclasses.dataclass
    class Theirs:
        a: int
        b: int = 1
        c: list[int] = dataclasses.field(default_factory=list)
        d: int = dataclasses.field(default=2, init=False)

    found = fields(Theirs)
    assert [(one.name, one.required, one.init) for one in found] == [
        ("a", True, True),
        ("b", False, True),
        ("c", False, True),
        ("d", False, False),
    ]
    assert [one.default for one in found] == [MISSING, 1, MISSING, 2]


def test_nothing_is_compiled() -> None:
    assert imported("import vfio_hooks.record") == {"__future__", "vfio_hooks", "vfio_hooks.record"}
