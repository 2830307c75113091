"""Which modules Python has after some code."""

import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]


def imported(code: str) -> set[str]:
    """The names of the modules that a bare Python, started as the dispatcher's is, has after it
    ran `code`, beyond those that it began with."""
    program = (
        "import sys; before = set(sys.modules); sys.path.insert(0, sys.argv[1])\n"
        f"{code}\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        ["/usr/bin/python3", "-IS", "-c", program, str(CHECKOUT)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())
