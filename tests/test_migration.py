"""vfio-hooks-migration(7): the tables and keys that it names exist."""

import re
from pathlib import Path

import pytest

from manual.make import items, source
from tests import guide
from vfio_hooks import plugins
from vfio_hooks.config import examine
from vfio_hooks.config.options import keys

PAGE = "vfio-hooks-migration.7"
PAIRS = items(PAGE)


@pytest.mark.parametrize(("script", "here"), PAIRS, ids=[script[:40] for script, _ in PAIRS])
def test_what_is_said_to_write_can_be_written(script: str, here: str) -> None:
    tables = re.findall(r"`\[+(\w+)\]+`", here)
    assert set(tables) <= set(plugins.BUILT_IN)
    known = {key for name in tables for key in keys(plugins.load(name).Options)}
    words = re.findall(r"`(\w+)`", here)
    assert {word for word in words if word not in ("release",)} <= known


def test_how_long_the_guides_scripts_sleep() -> None:
    """As counted by hand: 20 s in the start script, 11 s in the script for the card, 0.5 s in the
    stop procedure, and 8 s on the way back."""
    lines = " ".join(script for script, _ in items(PAGE, "THE TUNING GUIDE"))
    pauses = [float(seconds) for seconds in re.findall(r"sleep ([\d.]+)", lines)]
    assert sum(pauses) == guide.PAUSES == 20 + 11 + 0.5 + 8
    assert any(f"sleep for {guide.PAUSES:g} seconds" in block for block in source(PAGE))


def test_the_example_is_valid(tmp_path: Path) -> None:
    (toml,) = (block for block in source(PAGE) if "[session]" in block and block.startswith("    "))
    folder = tmp_path / "qemu.d/win11"
    folder.mkdir(parents=True)
    (folder / "vm.toml").write_text(re.sub("^ {4}", "", toml, flags=re.MULTILINE))
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    config, problems = examine(str(tmp_path), "win11")
    assert problems == []
    assert config and len(config.tables) == 4


def test_each_place_that_people_come_from_has_a_section() -> None:
    for title in ("THE TUNING GUIDE", "VFIO-TOOLS", "SINGLE-GPU HOOKS", "VFIO-ISOLATE"):
        assert items(PAGE, title)
