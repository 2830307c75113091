"""Runs the vfio-hooks command in this process, with a host, configuration and state of the test."""

import atexit
import functools
import io
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.hosttree import gpu_host
from vfio_hooks.cli import main
from vfio_hooks.host import pci_traits

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
UUID = "6b7b8a1e-7c5e-4d0f-9a55-3f1d2a9a7c11"


@dataclass(frozen=True)
class Result:
    """How the command ended. `out` and `err` have HOST, HOOKS and STATE for the folders."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Command:
    """Runs the command in folders of its own; the host is that of the guide."""

    def __init__(
        self, folder: Path, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch
    ) -> None:
        self.host = gpu_host(folder / "host")
        self.hooks = folder / "hooks"
        self.state = folder / "state"
        (self.hooks / "qemu.d").mkdir(parents=True)
        # It must not matter whether this machine has names for devices.
        patch.setattr(pci_traits, "_PCI_IDS", ())
        self._capsys = capsys
        self._patch = patch

    def manage(self, vm: str, toml: str = "[pci]\n") -> Path:
        """Give a VM a vm.toml, and return its path."""
        file = self.hooks / "qemu.d" / vm / "vm.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(toml)
        return file

    def __call__(self, *argv: str, stdin: str | bytes = b"") -> Result:
        """Run it with exactly these arguments."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        self._patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        self._capsys.readouterr()
        try:
            code = main(argv)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = self._capsys.readouterr()
        return Result(code, self._short(out), self._short(err))

    def here(self, verb: str, *argv: str, stdin: str | bytes = b"") -> Result:
        """Run a verb in the folders of this test."""
        places = {"root": self.host, "config-dir": self.hooks, "state-dir": self.state}
        takes = {
            "check": ("root", "config-dir", "state-dir"),
            "plan": ("root", "config-dir", "state-dir"),
            "hook": ("root", "config-dir", "state-dir"),
            "status": ("root", "state-dir"),
            "undo": ("root", "state-dir"),
            "validate": ("config-dir",),
            "topology": ("root",),
            "snapshot": ("root",),
            "init": ("root", "config-dir"),
            "iommu": ("root", "state-dir"),
        }
        options = [part for name in takes[verb] for part in (f"--{name}", str(places[name]))]
        return self(verb, *options, *argv, stdin=stdin)

    def _short(self, text: str) -> str:
        for name, path in (("HOST", self.host), ("HOOKS", self.hooks), ("STATE", self.state)):
            text = text.replace(str(path), name)
        return text


@functools.cache
def _package_for_all() -> str:
    """A copy of the package that everybody can read, because the checkout may be in root's home."""
    folder = tempfile.mkdtemp(prefix="vfio-hooks-package.", dir="/dev/shm")
    atexit.register(shutil.rmtree, folder)
    package = Path(__file__).parents[1] / "vfio_hooks"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, f"{folder}/vfio_hooks", ignore=ignored)
    for path in (Path(folder), *Path(folder).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def as_nobody(*argv: str) -> "subprocess.CompletedProcess[str]":
    """The command as a process of its own, run by a user who may change nothing."""
    return subprocess.run(
        ["/usr/bin/python3", "-m", "vfio_hooks", *argv],
        cwd=_package_for_all(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        user=65534,
        group=65534,
        extra_groups=[],
    )
