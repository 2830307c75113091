"""python3 -m vfio_hooks.services"""

import sys

from vfio_hooks.services import main

sys.exit(main())
