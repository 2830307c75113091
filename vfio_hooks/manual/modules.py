"""The part of vfio-hooks.toml(5) for those who write a facility of their own."""

import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from types import ModuleType
from typing import Any, get_args

import vfio_hooks.host
from vfio_hooks.domain import Domain, HugePages, PciFunction
from vfio_hooks.event import Event
from vfio_hooks.host import Host
from vfio_hooks.knobs import KINDS, knob_class
from vfio_hooks.manual.roff import Page
from vfio_hooks.sharing import Share
from vfio_hooks.steps import Step

EXAMPLE = '''\
"""The host's sound card does not fall asleep while the VM uses it."""

from dataclasses import dataclass

from vfio_hooks.knobs import File
from vfio_hooks.sharing import Override
from vfio_hooks.steps import Step

PATH = "/sys/module/snd_hda_intel/parameters/power_save"


@dataclass(frozen=True)
class Options:
    """`seconds` of silence after which it does; 0 for never."""

    seconds: int = 0


def plan(event, domain, options, host):
    if event.op == "prepare" and host.exists(PATH):
        yield Step("sound", File(PATH), Override(str(options.seconds)))
'''
_INTRO = """\
A file NAME.py in the VM's folder is a facility of the VM's own. It is used because it is there,
after the built-in ones, and has the same interface. Its options are in the table `[NAME]` of
vm.toml, which may be missing. The name must not be that of a built-in table.

A module changes nothing itself. It says what it wants, as steps, and vfio-hooks checks, shows,
does and undoes these with all others. It may import whatever is installed for the Python of the
distribution; the rest of the hook imports nothing of that. This is a whole module, sound.py:
"""
_INTERFACE = (
    (
        ["`plan(event, domain, options, host)`"],
        "Yields the steps of an event, or returns a list of them. It is called at prepare, start "
        "and started, more than once, and without root when a user runs `vfio-hooks plan`. So it "
        "must only read, and it sees each file as it was when first read for this plan. For what "
        "cannot work it raises `HookError(problem, hint)` of vfio_hooks.errors, before anything "
        "is changed; any other exception is told with the module's line. What it prints is seen "
        "by hand only, as with `vfio-hooks plan`.",
    ),
    (
        ["`Options`"],
        "A frozen dataclass, the keys of the table. Types may be str, int, float, bool, Literal, "
        "tuple of any length, dict with str as the key, and unions of these; None stands for a "
        "key that is left out. A ValueError from __post_init__ tells of a wrong value. Without "
        "this class the table has no keys.",
    ),
    (["`MULTIPLE`"], "True where there may be several tables, written `[[NAME]]`."),
)


def describe(page: Page) -> None:
    page.prose(_INTRO)
    page.example(_indented(EXAMPLE))
    page.part("What a module has")
    for tags, text in _INTERFACE:
        page.item(tags, text)
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
