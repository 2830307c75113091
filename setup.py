"""The wheel also brings what `vfio-hooks install` works with, and `rehearse --host` afterwards."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
FILES = (ROOT / "packaging/installer").read_text().split()


class WithInstaller(build_py):
    """Beside the modules, what lays them out on a host."""

    def run(self) -> None:
        super().run()
        for name in FILES:
            target = Path(self.build_lib, "vfio_hooks/installer", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)


setup(cmdclass={"build_py": WithInstaller})
