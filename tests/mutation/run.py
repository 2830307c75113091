"""Trying all mutants of some modules, see __init__.py."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import tests.mutation
from tests.mutation.mutants import Mutant, mutants
from tests.mutation.tests import own
from tests.mutation.trial import SURVIVED, measured, run
from tests.vm.cache import root

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "vfio_hooks"


def known(module: Path) -> dict[str, dict[str, str]]:
    """What is known about a module's mutants, by key."""
    file = _file(module)
    lines = file.read_text().splitlines() if file.exists() else []
    return {record["key"]: record for record in map(json.loads, lines)}


def _file(module: Path) -> Path:
    folder = root() / "mutants"
    folder.mkdir(exist_ok=True)
    return folder / f"{str(module.relative_to(PACKAGE)).replace('/', '.')}.jsonl"


def handle(module: Path, chosen: argparse.Namespace, until: float) -> None:
    """Run a module's mutants about which nothing is known, or again those that survived."""
    tests = own(str(module.relative_to(PACKAGE)), chosen.slow)
    every, told = mutants(module), known(module)
    wanted = SURVIVED if chosen.again else ""
    tried = every[: chosen.most]
    todo = [one for one in tried if told.get(one.key, {}).get("outcome", "") == wanted]
    cpu = measured(module, tests) if todo and time.monotonic() < until else 0
    with _file(module).open("a") as file:
        for mutant in todo:
            if time.monotonic() > until:
                break
            record = {"key": mutant.key, "outcome": run(mutant, tests, cpu)}
            file.write(json.dumps(record) + "\n")
            file.flush()
    report(module, every)


def report(module: Path, every: list[Mutant]) -> None:
    """Print how many mutants of a module were noticed, and those that were not."""
    told = known(module)
    outcomes = [(one, told[one.key]["outcome"]) for one in every if one.key in told]
    survivors = [one.change for one, outcome in outcomes if outcome == SURVIVED]
    share = 100 * (len(outcomes) - len(survivors)) / max(1, len(outcomes))
    name = module.relative_to(PACKAGE)
    print(f"{name}: {share:.1f} % killed of {len(outcomes)}; {len(every)} in all", flush=True)
    for change in sorted(survivors, key=lambda text: int(text.partition(":")[0])):
        print(f"  {change}")


def modules(names: list[str]) -> Iterator[Path]:
    """The modules below these files and folders of the package."""
    for name in names or ["engine", "sharing.py", "host/cpulist.py"]:
        path = PACKAGE / name
        yield from sorted(path.glob("*.py")) if path.is_dir() else [path]


def main() -> None:
    """Try the modules that are asked for."""
    parser = argparse.ArgumentParser(
        "python3 -m tests.mutation",
        description=tests.mutation.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE")
    parser.add_argument("--minutes", type=float, default=60, help="when to stop; 60")
    parser.add_argument("--most", type=int, metavar="COUNT", help="try so many of each module")
    parser.add_argument("--again", action="store_true", help="only those that survived before")
    parser.add_argument("--slow", action="store_true", help="with the slow tests, too")
    parser.add_argument("--list", action="store_true", help="run nothing, print what is known")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    until = time.monotonic() + 60 * chosen.minutes
    for module in modules(chosen.modules):
        if chosen.list:
            report(module, mutants(module))
        else:
            handle(module, chosen, until)


if __name__ == "__main__":
    main()
