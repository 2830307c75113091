"""What the README shows is what the program does."""

import json
import re
import shlex
from pathlib import Path

import pytest

from vfio_hooks import __version__
from vfio_hooks.cli import parser
from vfio_hooks.config import examine
from vfio_hooks.knobs import KINDS
from vfio_hooks.knobs.pci_driver import PciDriver
from vfio_hooks.plugins import BUILT_IN
from vfio_hooks.steps import Step

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def command_lines() -> list[str]:
    lines = "".join(blocks("")).splitlines()
    lines += re.findall(r"`([^`\n]+)`", README)
    plain = [line.strip().removeprefix("sudo ") for line in lines]
    return [line for line in plain if line.startswith("vfio-hooks ")]


@pytest.mark.parametrize("text", blocks("toml"))
def test_configuration_is_valid(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "qemu.d/win11"
    folder.mkdir(parents=True)
    (folder / "vm.toml").write_text(text)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    config, problems = examine(str(tmp_path), "win11")
    assert problems == []
    assert config and config.tables


@pytest.mark.parametrize("line", command_lines())
def test_commands_are_understood(line: str) -> None:
    arguments = shlex.split(line, comments=True)[1:]
    assert parser().parse_args(arguments).run


def test_every_table_that_is_listed_exists() -> None:
    tables = re.findall(r"^\| `\[+(\w+)\]+` \|", README, re.MULTILINE)
    assert tables
    assert sorted(tables) == sorted(BUILT_IN)


def test_the_journal_is_one_that_the_program_reads() -> None:
    (text,) = (block for block in blocks("") if block.startswith('{"record"'))
    record = json.loads(text.replace("\n", ""))
    step = Step.from_json(record["step"])
    assert step.knob == PciDriver("0000:05:00.0")
    assert step.as_json() == record["step"]
    assert record["base"] == "e1000e"


def test_linked_files_are_there() -> None:
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link


def test_kinds_to_undo_by_hand_exist() -> None:
    table = README[README.index("| kind | how") :].partition("\n\n")[0]
    kinds = [kind for row in table.splitlines()[2:] for kind in row.split(" | ")[0][2:].split(", ")]
    others = [kind for kind in kinds if kind not in KINDS]
    assert others == ['with `base` ""', "any other"]


def test_where_things_are_names_what_is_there() -> None:
    """Each folder of the package, each file of its core, and no file that has moved."""
    package = ROOT / "vfio_hooks"
    told = re.findall(r"`([\w./]+(?:/|\.py))`", (package / "README.md").read_text())
    assert not [name for name in told if not ((package / name).exists() or (ROOT / name).exists())]
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    core = {f"engine/{path.name}" for path in package.glob("engine/*.py")}
    assert folders | core | {"man/"} <= set(told)


def test_the_changes_begin_with_this_version() -> None:
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == __version__
