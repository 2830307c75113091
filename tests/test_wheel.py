"""The wheel, and `vfio-hooks install` out of it, on a copy of this machine."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.command import Command
from tests.sealed import can_seal
from tests.test_channels import COPY
from vfio_hooks.cli import install

pytestmark = pytest.mark.real_processes
ROOT = Path(__file__).resolve().parents[1]
SOURCES = (
    *("vfio_hooks", "hooks", "packaging", "install.sh", "README.md", "LICENSE"),
    *("setup.py", "setup.cfg", "pyproject.toml", "tests"),
)


def test_only_what_is_roots_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    """A wheel in somebody's home: nothing of it is run, or copied."""
    package = tmp_path / "site-packages/vfio_hooks"
    script = package / "installer/install.sh"
    for name in (listed := (ROOT / "packaging/installer").read_text()).split():
        (script.parent / name).parent.mkdir(parents=True, exist_ok=True)
        (script.parent / name).write_text("#!/bin/bash\ntouch ran\n")
    (script.parent / "packaging/installer").write_text(listed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(install, "_PACKAGE", package)
    monkeypatch.setattr(install, "_SCRIPTS", (script,))
    for path in (script, package / "mine.py"):
        path.touch()
        path.chmod(0o666)
        result = command("install")
        assert result.code == 1
        assert f"{path}: users other than its owner may write to it" in result.err
        assert "sudo /opt/vfio-hooks/bin/pip install vfio-hooks" in result.err
        assert not (tmp_path / "ran").exists()
        path.chmod(0o644)


def test_what_is_installed_is_not_installed_again(
    monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setattr(install, "_SCRIPTS", ())
    result = command("install")
    assert (result.code, "is installed already; upgrade it" in result.err) == (1, True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkout = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, checkout / name)
    words = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-input"]
    built = subprocess.run(
        [*words, "--wheel-dir", str(checkout / "dist"), str(checkout)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert built.returncode == 0, built.stderr
    return next((checkout / "dist").glob("*.whl"))


@pytest.mark.matrix_only
def test_the_wheel_has_all_that_is_installed(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (ROOT / "packaging/installer").read_text().split():
        assert f"vfio_hooks/installer/{name}" in names
    package = ROOT / "vfio_hooks"
    wanted = [*package.rglob("*.py"), *(package / "man").iterdir()]
    assert {str(path.relative_to(ROOT)) for path in wanted} <= names


IN_THERE = """
mkdir -p etc/libvirt/hooks
install -m 755 mnt/hook etc/libvirt/hooks/qemu
chroot . python3 -m venv --system-site-packages /opt/vfio-hooks
chroot . sh -c "/opt/vfio-hooks/bin/pip install --quiet --no-deps --no-index /mnt/*.whl"
chroot . /opt/vfio-hooks/bin/vfio-hooks install >/dev/null
rm -r opt/vfio-hooks
ls etc/libvirt/hooks
find usr/local/share/man usr/local/share/zsh -name '*vfio-hooks*' -type f | wc -l
chroot . /etc/libvirt/hooks/qemu other prepare begin - </dev/null
chroot . /usr/local/bin/vfio-hooks --version
chroot . /usr/local/bin/vfio-hooks install 2>&1 || true
"""


@pytest.mark.matrix_only
@pytest.mark.skipif(not can_seal(), reason="needs root and mount namespaces")
def test_what_is_installed_needs_no_environment(wheel: Path, tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    shutil.copy(wheel, packages)
    (packages / "hook").write_text("#!/bin/sh\n")
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", COPY, "sh", str(tmp_path), "sh", "-ec", IN_THERE],
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout.splitlines()
    assert told[:4] == ["qemu", "qemu.d", "qemu.kept", "5"]
    assert told[4].startswith("vfio-hooks ")
    assert "is installed already" in told[5]
