"""Each desktop of each release, started once for all its tests.

The matrix has them of Debian testing, too. Environment variables choose otherwise:
VFIO_HOOKS_DESKTOPS="trixie forky" the releases, and VFIO_HOOKS_EXAMPLES=50 so many random examples
in place of the fixed ones.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.desktop.programs import PROGRAMS, Program
from tests.desktop.session import Desktop, running
from tests.desktop.tree import MISSING, provide
from tests.vm.process import VmError
from tests.vm.release import TESTING

SUITES: tuple[str, ...] = ("trixie", TESTING)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that wants a desktop once for each that its marks allow."""
    if "desktop" not in metafunc.fixturenames:
        return
    only = metafunc.definition.get_closest_marker("only")
    but = metafunc.definition.get_closest_marker("not_on")
    chosen = [one for one in PROGRAMS if not only or one.name in only.args]
    chosen = [one for one in chosen if not but or one.name not in but.args]
    suites = SUITES if metafunc.config.getoption("--matrix") else SUITES[:1]
    if named := os.environ.get("VFIO_HOOKS_DESKTOPS"):
        suites = tuple(named.split())
    marked = [
        pytest.param(
            (suite, program),
            id=f"{suite}-{program.name}",
            # One process, and so one start, for all tests of it.
            marks=(pytest.mark.desktop, pytest.mark.xdist_group(f"{suite}-{program.name}")),
        )
        for suite in suites
        for program in chosen
    ]
    metafunc.parametrize("desktop", marked, indirect=True, scope="session")


@pytest.fixture(scope="session")
def desktop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desktop]:
    """A desktop with three outputs; skips the test where its programs cannot be installed."""
    suite, program = request.param
    tree = _tree(suite, program)
    log = tmp_path_factory.mktemp("desktop") / f"{program.name}.log"
    with running(tree, program, log) as started:
        yield started


def _tree(suite: str, program: Program) -> Path:
    try:
        tree = provide(suite)
    except VmError as error:
        pytest.skip(str(error))
    missing = tree / MISSING / program.name
    if missing.exists():
        pytest.skip(f"{suite}: {missing.read_text().strip()}")
    return tree
