"""The Debian package builds, and Debian's own checker has nothing against it."""

import os
import subprocess
from pathlib import Path

import pytest

# Together, as each process of a run would build the package anew.
pytestmark = [pytest.mark.real_processes, pytest.mark.xdist_group("package")]
ROOT = Path(__file__).resolve().parents[1]


def build(folder: Path) -> Path:
    """The package, built into a folder."""
    subprocess.run(
        [str(ROOT / "packaging/deb"), str(folder)],
        check=True,
        capture_output=True,
        timeout=600,
        env={**os.environ, "DEBEMAIL": "someone@debian.org"},
    )
    return next(folder.glob("vfio-hooks_*_all.deb"))


def field(package: Path, name: str) -> str:
    """A field of the package's control file."""
    told = subprocess.run(
        ["dpkg-deb", "--field", str(package), name], check=True, capture_output=True, timeout=60
    )
    return told.stdout.decode().strip()


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("package"))


def test_lintian_has_nothing_to_say(package: Path) -> None:
    told = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning,info", str(package)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (told.returncode, told.stdout) == (0, "")


def test_it_is_for_every_machine_with_what_the_hook_imports(package: Path) -> None:
    assert field(package, "Architecture") == "all"
    needed = {words.split()[0] for words in field(package, "Depends").split(", ")}
    assert {"python3", "python3-lxml", "python3-sh", "python3-libvirt"} <= needed


def test_it_has_what_install_sh_has(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "--extract", str(package), str(tmp_path)], check=True, timeout=60)
    modules = next((tmp_path / "usr/lib/vfio-hooks").glob("*/vfio_hooks"))
    wanted = {path.relative_to(ROOT / "vfio_hooks") for path in ROOT.glob("vfio_hooks/**/*.py")}
    assert {path.relative_to(modules) for path in modules.rglob("*.py")} == wanted
    assert not list(modules.rglob("*.pyc"))
    hook = (tmp_path / "usr/lib/vfio-hooks/hook").read_text()
    assert f'LIBRARY = "/usr/lib/vfio-hooks/{modules.parent.name}"' in hook
    assert (tmp_path / "etc/libvirt/hooks/qemu.d").is_dir()
    for page in ("man1/vfio-hooks.1.gz", "man5/vfio-hooks.toml.5.gz"):
        assert (tmp_path / "usr/share/man" / page).is_file()


def test_its_scripts_are_shell(package: Path) -> None:
    scripts = [ROOT / "packaging/deb", *(ROOT / "packaging/debian").glob("*inst")]
    scripts.append(ROOT / "packaging/debian/prerm")
    subprocess.run(["shellcheck", *map(str, scripts)], check=True, timeout=120)
