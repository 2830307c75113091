"""Frozen records: what `@dataclass(frozen=True)` makes, of a class's annotations.

dataclasses compiles six methods for every class, and imports inspect, ast and dis for that: half
of what an event with nothing to do cost. Here every record has the same six.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    Class = TypeVar("Class", bound=type)
    One = TypeVar("One")
else:

    def dataclass_transform(**_):
        return lambda function: function


MISSING: Any = type("MISSING", (), {"__repr__": lambda self: "MISSING"})()
"""The default of a field that has none."""
_FIELDS = "__record_fields__"
_DATACLASS = "__dataclass_fields__"
_attribute = object.__getattribute__


class Field:
    """A field of a record. `compare`: it counts where two are compared."""

    __slots__ = ("compare", "default", "default_factory", "init", "name")

    def __init__(
        self,
        name: str,
        default: Any = MISSING,
        default_factory: Any = MISSING,
        compare: bool = True,
        init: bool = True,
    ) -> None:
        self.name = name
        self.default = default
        self.default_factory = default_factory
        self.compare = compare
        self.init = init

    @property
    def required(self) -> bool:
        return self.default is MISSING and self.default_factory is MISSING


def field(
    *,
    default: Any = MISSING,
    default_factory: Callable[[], Any] = MISSING,
    compare: bool = True,
) -> Any:
    """Describes a field in place of a default: a new value for each record (`default_factory`), or
    that it does not count when two records are compared (`compare`)."""
    return Field("", default, default_factory, compare)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(of: Class) -> Class:
    """Make frozen records of a class: with an initializer, equality, a hash and a repr. Its fields
    are its annotations, except ClassVar, and those of the records that it inherits from."""
    found: dict[str, Field] = {}
    for base in reversed(of.__mro__[1:]):
        found.update(vars(base).get(_FIELDS, {}))
    for name, annotation in of.__annotations__.items():
        if not str(annotation).startswith(("ClassVar", "typing.ClassVar")):
            found[name] = _field(of, name)
    setattr(of, _FIELDS, found)
    for name, shared in {"__init__": _initializer(of, found), **_SHARED}.items():
        if vars(of).get(name) is None:
            setattr(of, name, shared)
    # One by one, as positional patterns take them.
    type.__setattr__(of, "__match_args__", tuple(found))
    return of


def _field(of: type, name: str) -> Field:
    default = vars(of).get(name, MISSING)
    if not isinstance(default, Field):
        return Field(name, default)
    delattr(of, name)
    if default.default is not MISSING:
        setattr(of, name, default.default)
    return Field(name, default.default, default.default_factory, default.compare)


def fields(of: Any) -> tuple[Field, ...]:
    """The fields of a record or dataclass, of an instance or of the class."""
    if not hasattr(of, _DATACLASS):
        found: dict[str, Field] = getattr(of, _FIELDS)
        return tuple(found.values())
    import dataclasses

    def ours(value: Any) -> Any:
        return MISSING if value is dataclasses.MISSING else value

    return tuple(
        Field(one.name, ours(one.default), ours(one.default_factory), bool(one.compare), one.init)
        for one in dataclasses.fields(of)
    )


def replace(of: One, /, **changes: Any) -> One:
    """A copy of a record or dataclass, with some fields changed."""
    own = _attribute(of, "__dict__")
    return type(of)(**{**{one.name: own[one.name] for one in fields(of)}, **changes})


def asdict(of: Any) -> dict[str, Any]:
    """A record or dataclass as a dictionary, including those in its fields, lists and tuples."""
    return {one.name: _plain(getattr(of, one.name)) for one in fields(of)}


def _plain(value: Any) -> Any:
    if hasattr(type(value), _FIELDS) or hasattr(type(value), _DATACLASS):
        return asdict(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    if isinstance(value, dict):
        return {key: _plain(inside) for key, inside in value.items()}
    return value


def _initializer(of: type, known: dict[str, Field]) -> Callable[..., None]:
    """The `__init__` of a class. It makes every record that is read from a journal, so the names of
    the fields are looked up only once."""
    names = tuple(known)
    defaults = {name: one.default for name, one in known.items() if one.default is not MISSING}
    is_checked = hasattr(of, "__post_init__")

    def __init__(self: Any, /, *values: Any, **named: Any) -> None:
        # Not by setattr, which a record refuses.
        own: dict[str, Any] = _attribute(self, "__dict__")
        own.update(defaults)
        own.update(zip(names, values, strict=False))
        own.update(named)
        if len(values) > len(names) or (named and named.keys() - {*names[len(values) :]}):
            raise TypeError(f"{of.__name__}() takes {', '.join(names) or 'nothing'}, each once")
        if len(own) < len(names):
            _make(of, own, known)
        if is_checked:
            self.__post_init__()

    return __init__


def _make(of: type, own: dict[str, Any], known: dict[str, Field]) -> None:
    """Fill in the fields that were not given, or raise TypeError."""
    for name, one in known.items():
        if name not in own:
            if one.required:
                raise TypeError(f"{of.__name__}() needs {name}")
            own[name] = one.default_factory()


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(
        [getattr(self, name) for name, one in getattr(self, _FIELDS).items() if one.compare]
    )


def _eq(self: Any, other: object) -> Any:
    return _values(self) == _values(other) if type(self) is type(other) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _repr(self: Any) -> str:
    inside = (f"{name}={getattr(self, name)!r}" for name in getattr(self, _FIELDS))
    return f"{type(self).__qualname__}({', '.join(inside)})"


def _setattr(self: Any, name: str, value: object) -> None:
    raise AttributeError(f"cannot assign to field {name!r} of a record")


def _delattr(self: Any, name: str) -> None:
    raise AttributeError(f"cannot delete field {name!r} of a record")


_SHARED = {
    "__eq__": _eq,
    "__hash__": _hash,
    "__repr__": _repr,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__replace__": replace,
}
