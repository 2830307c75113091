"""`python3 -m vfio_hooks`, the same as the vfio-hooks command."""

import sys

from vfio_hooks.cli import main

sys.exit(main())
