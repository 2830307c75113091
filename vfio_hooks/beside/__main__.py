"""python3 -m vfio_hooks.beside"""

import sys

from vfio_hooks.beside import main

sys.exit(main())
