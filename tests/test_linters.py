"""The linters, as tests: the whole repository is clean by every one of them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from manual.make import make
from vfio_hooks.cli.manual import FOLDER, PAGES

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]


def _clean(*argv: str) -> None:
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def _shell_files() -> list[str]:
    """Every shell script of the repository, by its first line; those in tests/scripts are written
    as people write theirs."""
    found = []
    for path in sorted(ROOT.rglob("*")):
        folders = path.relative_to(ROOT).parts[:-1]
        if folders == ("tests", "scripts"):
            continue
        if any(part.startswith(".") and part != ".ci" for part in folders):
            continue
        if path.is_file() and _first_line(path) in (b"#!/usr/bin/env bash", b"#!/bin/sh"):
            found.append(str(path))
    return found


def _first_line(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.readline(64).rstrip()


def test_ruff_finds_nothing() -> None:
    _clean(sys.executable, "-m", "ruff", "check", ".", "hooks/qemu")


def test_every_python_file_has_ruffs_format() -> None:
    _clean(sys.executable, "-m", "ruff", "format", "--check", ".", "hooks/qemu")


def test_mypy_finds_nothing() -> None:
    _clean(sys.executable, "-m", "mypy")


def test_shellcheck_finds_nothing() -> None:
    assert shutil.which("shellcheck"), "shellcheck is not installed; tests/run installs it"
    files = _shell_files()
    assert str(ROOT / "tests/run") in files
    _clean("shellcheck", *files)


def test_no_word_that_people_read_is_misspelt() -> None:
    places = (
        "vfio_hooks",
        "manual",
        "hooks",
        "packaging",
        "install.sh",
        *ROOT.glob("**/README.md"),
    )
    _clean(sys.executable, "-m", "codespell_lib", *map(str, (*places, "CHANGELOG.md")))


@pytest.mark.parametrize("name", PAGES)
def test_the_finished_manual_page_is_current(name: str) -> None:
    assert (FOLDER / name).read_text() == make(name), "run python3 -m manual and commit the pages"
