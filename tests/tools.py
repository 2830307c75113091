"""Programs from PyPI that few tests need, each set in an environment of its own in the cache."""

import re
import subprocess
import sys
from pathlib import Path

from tests.vm.cache import locked, root

REQUIREMENTS = Path(__file__).parent / "requirements.txt"


def installed(*tools: str, beside_tests: bool = False) -> Path:
    """The folder with the programs of these pinned packages, and with "python", which can import
    them; `beside_tests` has it import all that the tests need as well."""
    venv = root() / re.sub(r"[^\w.-]+", "-", "-".join(tools))
    done = venv / "installed"
    wanted = REQUIREMENTS.read_text() if beside_tests else ""
    # Other checkouts have the same cache.
    with locked(venv.name):
        if done.exists() and done.read_text() == wanted:
            return venv / "bin"
        make = [sys.executable, "-m", "venv", "--clear", str(venv)]
        subprocess.run(make + ["--system-site-packages"] * beside_tests, check=True, timeout=300)
        pip = [str(venv / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input"]
        ours = ["--requirement", str(REQUIREMENTS)] if beside_tests else []
        subprocess.run([*pip, *ours, *tools], check=True, timeout=600)
        done.write_text(wanted)
    return venv / "bin"
