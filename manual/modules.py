"""What vfio-hooks.toml(5) tells people who write a module of their own, from its interface."""

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

import vfio_hooks.host
from manual.roff import Page
from vfio_hooks.domain import Domain, HugePages, PciFunction
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs import KINDS, knob_class
from vfio_hooks.sharing import Share
from vfio_hooks.steps import Step


def _interface(page: Page) -> None:
    page.part("What plan() is given")
    for kind in (Event, Domain, PciFunction, HugePages):
        page.prose(f"`{kind.__module__}.{kind.__name__}`: {_whole(kind)}")
        page.example(_indented("\n".join(_fields(kind))))
    page.prose(f"`{Host.__module__}.Host`: {_whole(Host)}")
    for name, method in inspect.getmembers(Host, inspect.isfunction):
        if not name.startswith("_"):
            page.item([f"`host.{name}{_signature(method)}`"], _first(method))
    page.part("Step, of vfio_hooks.steps")
    page.prose(_whole(Step))
    page.example(_indented("\n".join(_fields(Step))))
    page.part("How a value is shared, of vfio_hooks.sharing")
    for share in get_args(Share):
        page.item([f"`{share.__name__}{_signature(share)}`"], _whole(share))
    page.part("What can be changed, of vfio_hooks.knobs")
    for knob in map(knob_class, KINDS):
        page.item([f"`{knob.__name__}{_signature(knob)}`"], _whole(knob))
    page.part("Helpers, of vfio_hooks.host")
    for module, function in _helpers():
        short = module.__name__.removeprefix("vfio_hooks.host.")
        page.item([f"`{short}.{function.__name__}{_signature(function)}`"], _first(function))


PARTS = {"interface": _interface}


def _helpers() -> Iterator[tuple[ModuleType, Callable[..., Any]]]:
    """The functions with which the built-in plugins read a host."""
    for found in pkgutil.iter_modules(vfio_hooks.host.__path__):
        module = import_module(f"vfio_hooks.host.{found.name}")
        for name, function in inspect.getmembers(module, callable):
            own = getattr(function, "__module__", "") == module.__name__
            if (
                own
                and not inspect.isclass(function)
                and not name.startswith("_")
                and _first(function)
            ):
                yield module, function


def _fields(kind: type[Any]) -> list[str]:
    parameters = inspect.signature(kind).parameters.values()
    return [_short(str(one)).removesuffix(" = <factory>") for one in parameters]


def _signature(what: Callable[..., Any]) -> str:
    names = [one.replace(annotation=one.empty) for one in _parameters(what) if one.name != "self"]
    return str(inspect.Signature(names))


def _parameters(what: Callable[..., Any]) -> list[inspect.Parameter]:
    return list(inspect.signature(what).parameters.values())


def _short(text: str) -> str:
    """An annotation without the names of modules."""
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text)


def _whole(what: Any) -> str:
    """A docstring as one paragraph."""
    return " ".join((inspect.getdoc(what) or "").split())


def _first(what: Any) -> str:
    """A docstring's first paragraph."""
    return " ".join((inspect.getdoc(what) or "").partition("\n\n")[0].split())


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.rstrip("\n").split("\n"))
