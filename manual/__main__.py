"""`python3 -m manual`: make the finished pages in vfio_hooks/man anew."""

from manual.make import make
from vfio_hooks.cli.manual import FOLDER, PAGES

for name in PAGES:
    (FOLDER / name).write_text(make(name), encoding="ascii")
