"""`python3 -m tests.mutation`: makes an environment with Cosmic Ray, and runs there, sealed off."""

import os
import sys

from tests.tools import installed

TOOL = "cosmic-ray==8.7.0"
# Files that a killed child leaves behind are gone with this run.
SEAL = 'mount -t tmpfs none /dev/shm && TMPDIR=/dev/shm exec "$@"'

if __name__ == "__main__":
    python = str(installed(TOOL, beside_tests=True) / "python")
    own = [python, "-m", "tests.mutation.run", *sys.argv[1:]]
    os.execvp("unshare", ["unshare", "--mount", "sh", "-c", SEAL, "sh", *own])
