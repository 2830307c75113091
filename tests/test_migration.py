"""vfio-hooks-migration(7): the tables and keys that it tells of are there."""

import re
from pathlib import Path

import pytest

from vfio_hooks import plugins
from vfio_hooks.config import examine
from vfio_hooks.config.options import keys
from vfio_hooks.manual import guide, migration, page
from vfio_hooks.manual.roff import paragraphs

PAIRS = [
    *((line.script, line.here) for _, lines in guide.SCRIPTS for line in lines),
    *migration._VFIO_TOOLS,
    *migration._SINGLE_GPU,
    *migration._ISOLATE,
]


@pytest.mark.parametrize(("script", "here"), PAIRS, ids=[script[:40] for script, _ in PAIRS])
def test_what_is_said_to_write_can_be_written(script: str, here: str) -> None:
    tables = re.findall(r"`\[+(\w+)\]+`", here)
    assert set(tables) <= set(plugins.BUILT_IN)
    known = {key for name in tables for key in keys(plugins.load(name).Options)}
    words = re.findall(r"`(\w+)`", here)
    assert {word for word in words if word not in ("release",)} <= known


def test_the_example_is_valid(tmp_path: Path) -> None:
    _, toml = paragraphs(migration._SINGLE_EXAMPLE)
    folder = tmp_path / "qemu.d/win11"
    folder.mkdir(parents=True)
    (folder / "vm.toml").write_text(re.sub("^ {4}", "", toml, flags=re.MULTILINE))
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    config, problems = examine(str(tmp_path), "win11")
    assert problems == []
    assert config and len(config.tables) == 4


def test_each_place_that_people_come_from_has_a_section() -> None:
    text = page("vfio-hooks-migration").replace("\\-", "-")
    for title in ("THE TUNING GUIDE", "VFIO-TOOLS", "SINGLE-GPU HOOKS", "VFIO-ISOLATE"):
        assert f"\n.SH {title}\n" in text
    assert "39.5 seconds" in text or "39.5\nseconds" in text
