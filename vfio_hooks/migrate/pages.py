"""Whether a script allocates more huge pages than its VM's memory needs."""

import re

from vfio_hooks.domain import Domain
from vfio_hooks.host.memory import amount
from vfio_hooks.migrate import Script
from vfio_hooks.migrate.verdict import Verdict
from vfio_hooks.record import replace

_COUNT = re.compile(r"^write (\d+) ?> |nr_hugepages\s*=\s*(\d+)")
_SIZE = re.compile(r"hugepages-(\d+)kB")


def compared(script: Script, domain: Domain, usual: int) -> Script:
    """The script, with such lines marked as mistakes. `usual` is the size of a page, in KiB, if
    none is named. A number that is only known when the script runs is left alone."""
    verdicts = tuple(_compared(one, domain.memory, usual) for one in script.verdicts)
    return replace(script, verdicts=verdicts)


def _compared(one: Verdict, memory: int, usual: int) -> Verdict:
    found = _COUNT.search(one.command)
    if (one.kind, one.table) != ("table", "hugepages") or not found or not memory:
        return one
    size = _SIZE.search(one.command)
    page = int(size[1]) if size else usual
    count, needed = int(found[1] or found[2]), -(-memory // page)
    if count <= needed:
        return one
    why = (
        f"{count} pages of {amount(page)} are more than the {needed} that the VM's "
        f"{amount(memory)} need; [hugepages] adds these, and removes them again"
    )
    return replace(one, kind="mistake", why=why)
