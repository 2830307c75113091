"""What people copy is valid: the examples, with the defaults that they show, and all advice."""

import ast
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vfio_hooks.config import examine

ROOT = Path(__file__).resolve().parents[1]
SHOWN = re.compile(r"^# (?=\w+ = )", re.MULTILINE)
"""Before a default that is commented out."""
EXAMPLES = sorted(path.parent for path in ROOT.glob("hooks/qemu.d/*/vm.toml"))


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """The examples in a folder with modes of our own, whatever the checkout's are."""
    shutil.copytree(ROOT / "hooks/qemu.d", tmp_path / "qemu.d")
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("vm", [folder.name for folder in EXAMPLES])
def test_an_example_is_valid(hooks: Path, vm: str) -> None:
    config, problems = examine(str(hooks), vm)
    assert problems == []
    assert config and config.tables


@pytest.mark.parametrize(
    "vm", [folder.name for folder in EXAMPLES if SHOWN.search((folder / "vm.toml").read_text())]
)
def test_what_an_example_shows_as_default_is_the_default(hooks: Path, vm: str) -> None:
    file = hooks / "qemu.d" / vm / "vm.toml"
    short, problems = examine(str(hooks), vm)
    assert problems == []
    text = file.read_text()
    file.write_text(SHOWN.sub("", text))
    assert examine(str(hooks), vm) == (short, [])


def texts() -> Iterator[str]:
    """Every text in the program; what is filled in later is a 0."""
    for path in sorted((ROOT / "vfio_hooks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(
                    getattr(part, "value", "") if isinstance(part, ast.Constant) else "0"
                    for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def advised(text: str) -> Iterator[str]:
    """The lines that a text says to write into vm.toml, below their table."""
    table = r"(\[+[a-z]+\]+)"
    for name, line in re.findall(rf"below {table}: (\w+ = [^\s;]+)", text):
        yield f"{name}\n{line}"
    for line, name in re.findall(rf"(\w+ = \S+) (?:in|into) {table}", text):
        yield f"{name}\n{line}"
    yield from re.findall(r"in vm\.toml:\n(.*)", text, re.DOTALL)


ADVICE = sorted({one for text in texts() for one in advised(text)})


@pytest.mark.parametrize("lines", ADVICE)
def test_what_is_advised_is_valid(hooks: Path, lines: str) -> None:
    (hooks / "qemu.d/win11-gpu/vm.toml").write_text(lines)
    assert examine(str(hooks), "win11-gpu")[1] == []


def test_all_advice_of_values_is_found() -> None:
    assert {one.partition("\n")[0] for one in ADVICE} >= {"[governor]", "[[write]]", "[pci]"}
    # TOML has a line end behind the name of a table.
    assert [one for one in texts() if re.search(r"\[[a-z]+\]+,? +\w+ = ", one)] == []
