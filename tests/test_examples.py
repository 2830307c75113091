"""The examples that people copy: they are valid, and the defaults that they show are true."""

import re
import shutil
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
