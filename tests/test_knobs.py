"""The package of knobs as a whole."""

import pkgutil
import subprocess
from importlib import import_module
from pathlib import Path

import vfio_hooks.knobs
from vfio_hooks.knobs import KINDS, Knob, knob_class


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
    names = {place.partition(".")[2] for place in KINDS.values()}
    assert set(vfio_hooks.knobs.__all__) == names | {"KINDS", "Knob", "knob_class"}


def test_only_the_knobs_that_are_needed_are_imported() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import vfio_hooks.steps;"
        "from vfio_hooks.knobs import Pages;"
        "print(*(name for name in sys.modules if name.startswith('vfio_hooks.knobs.')))"
    )
    checkout = str(Path(__file__).parents[1])
    told = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", code, checkout], capture_output=True, text=True
    )
    modules = {name.rpartition(".")[2] for name in told.stdout.split()}
    assert modules == {"base", "file", "pages"}, told.stderr
