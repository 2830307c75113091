"""What `check` tells of each case of its tests, word for word, and how it mends XML: told/*.txt.

    VFIO_HOOKS_RETELL=1 tests/run tests/test_check_host.py -n 0      writes those texts anew

Read the difference before it is committed: each line is one that people act on.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import TypeVar

from vfio_hooks.check import Finding

FOLDER = Path(__file__).parent / "told"
_HEAD = "== "
_RETELL = bool(os.environ.get("VFIO_HOOKS_RETELL"))
_AGAIN = "if that is meant, write it anew: see tests/telling.py"
Case = TypeVar("Case")


def named(cases: Sequence[Case], names: Iterable[str]) -> list[tuple[str, Case]]:
    """Cases with a name for each: that of its rule, with a number from the second on."""
    seen: Counter[str] = Counter()
    found = []
    for case, name in zip(cases, names, strict=True):
        seen[name] += 1
        found.append((f"{name} {seen[name]}" if seen[name] > 1 else name, case))
    return found


def told(found: Iterable[Finding], root: Path, before: str = "", after: str = "") -> str:
    """What people read of findings, on a host that is the files below `root`; and what a fix
    changes of a domain's XML."""
    lines = []
    for one in found:
        by_hand = ", by hand" if one.seen.by_hand else ""
        lines += [f"{one.rule.level}{by_hand}: {one.seen.text}"]
        lines += [f"    {line}" for line in one.seen.advice.splitlines()]
    change = unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    lines += [line for line in change if not line.startswith(("---", "+++", "@@"))]
    text = "\n".join(lines).replace(str(root), "").strip()
    return re.sub("(?<=has a mistake: ).*", "in the shell's own words", text)


def compare(area: str, name: str, text: str) -> None:
    """Fail if the recorded text of a case differs."""
    if _RETELL:
        _write(area, {**_read(area), name: text})
    assert text == _read(area).get(name), _AGAIN


def compare_names(area: str, names: Iterable[str]) -> None:
    """Fail if there are recorded texts of cases that no longer exist."""
    known, wanted = _read(area), set(names)
    if _RETELL:
        _write(area, {name: known[name] for name in known if name in wanted})
    assert set(_read(area)) == wanted, _AGAIN


def _read(area: str) -> dict[str, str]:
    file = FOLDER / f"{area}.txt"
    blocks = ("\n" + file.read_text()).split(f"\n{_HEAD}")[1:] if file.exists() else []
    pairs = (block.partition("\n") for block in blocks)
    return {name: text.strip("\n") for name, _, text in pairs}


def _write(area: str, told_of: dict[str, str]) -> None:
    blocks = (f"{_HEAD}{name}\n{text}\n" for name, text in sorted(told_of.items()))
    (FOLDER / f"{area}.txt").write_text("\n".join(blocks))
