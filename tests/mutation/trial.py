"""Trying one mutant: whether the tests of its module notice it."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

import hypothesis  # noqa: F401  # loaded once, and not for every mutant
import lxml.etree  # noqa: F401
import pytest

from tests.mutation.mutants import Mutant

SURVIVED, KILLED, TOO_LONG = "survived", "killed", "too long"


class MutatedLoader(SourceFileLoader):
    """Loads a module from another text than the one in its file."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._source, self.path, "exec", dont_inherit=True)


class MutantFinder(MetaPathFinder):
    """Finds one module mutated."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(self, name: str, path: Any, target: object = None) -> ModuleSpec | None:
        """The module's spec, with a loader of ours; None for all other modules."""
        if not name.startswith("vfio_hooks"):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or spec.origin != str(self._mutant.module):
            return None
        spec.loader = MutatedLoader(name, spec.origin, self._mutant.source)
        return spec


def run(mutant: Mutant, tests: list[str], cpu: int) -> str:
    """Run the tests on a mutant, within so many seconds of CPU time."""
    child = os.fork()
    if not child:
        os._exit(_child(mutant, tests, cpu))
    # Waiting for what never comes takes no CPU time; nor does waiting for a CPU of a busy machine.
    deadline = time.monotonic() + 6 * cpu
    while time.monotonic() < deadline or _waits_for_a_cpu(child):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return SURVIVED if code == 0 else TOO_LONG if code < 0 else KILLED
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return TOO_LONG


def _waits_for_a_cpu(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "R"


def _child(mutant: Mutant, tests: list[str], cpu: int) -> int:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    nothing = os.open(os.devnull, os.O_RDWR)
    for file in (0, 1, 2):
        os.dup2(nothing, file)
    sys.meta_path.insert(0, MutantFinder(mutant))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    return int(pytest.main([*options, *tests]))


def measured(module: Path, tests: list[str]) -> int:
    """How many seconds of CPU time a mutant may take: some times what the module itself does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    unchanged, broken = Mutant(module, module.read_text(), "", ""), Mutant(module, "1 / 0", "", "")
    if run(unchanged, tests, 600) != SURVIVED:
        raise SystemExit(f"{module}: the tests fail without any mutant: pytest {' '.join(tests)}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if run(broken, tests, 600) == SURVIVED:
        raise SystemExit(f"{module}: mutants do not take its place: something has imported it")
    return int(4 * (after.ru_utime - before.ru_utime)) + 8
