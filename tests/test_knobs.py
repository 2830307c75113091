"""The package of knobs as a whole."""

import pkgutil
from importlib import import_module

import pytest

import vfio_hooks.knobs
from tests.imports import imported
from vfio_hooks.knobs import KINDS, Knob, knob_class

pytestmark = pytest.mark.real_processes


def test_every_knob_is_one_that_a_journal_may_name() -> None:
    written = {}
    for found in pkgutil.iter_modules(vfio_hooks.knobs.__path__):
        module = import_module(f"vfio_hooks.knobs.{found.name}")
        for name, what in vars(module).items():
            own = isinstance(what, type) and what.__module__ == module.__name__
            if own and issubclass(what, Knob) and "kind" in vars(what):
                written[what.kind] = f"{found.name}.{name}"
    assert written == KINDS
    assert all(knob_class(kind).kind == kind for kind in KINDS)


def test_people_import_every_knob_from_the_package() -> None:
    for kind, place in KINDS.items():
        assert getattr(vfio_hooks.knobs, place.partition(".")[2]) is knob_class(kind)
    assert not hasattr(vfio_hooks.knobs, "Flie")


def test_only_the_knobs_that_are_needed_are_imported() -> None:
    modules = imported("import vfio_hooks.steps; from vfio_hooks.knobs import Pages")
    knobs = {name for name in modules if name.startswith("vfio_hooks.knobs.")}
    needed = ("base", "cpu_set", "file", "pages")
    assert knobs == {f"vfio_hooks.knobs.{name}" for name in needed}
