"""What the hook has left behind: journals of VMs that are not running."""

import os
from collections.abc import Iterator
from shlex import quote

from vfio_hooks import RUNNING
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.domain.files import names, runs
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.plural import counted, verb

_SOURCE = "vfio-hooks(1), FILES"


@rule(
    "journal-damaged",
    "hook",
    "error",
    why="A journal says what has to be undone. As long as one cannot be read, no managed VM "
    "starts.",
    source=_SOURCE,
)
def damaged(patient: Patient) -> Iterator[Seen]:
    for error in Ledger(patient.paths.folder()).read_all().damaged.values():
        yield Seen(error.problem, error.hint)


@rule(
    "journal-stale",
    "hook",
    "warning",
    why="The host is still changed for a VM that is not running, as after a crash of libvirt's "
    "daemon.",
    source=_SOURCE,
)
def stale(patient: Patient) -> Iterator[Seen]:
    folder, host = patient.paths.folder(), patient.host
    # Only root can see that; the other rule says so.
    if not host.exists(RUNNING) or not os.access(folder.path, os.R_OK) or folder.is_busy():
        return
    known = names(host)
    for journal in Ledger(folder).read_all().journals.values():
        journal.rename(known.get(journal.uuid, journal.vm))
        changed = len(journal.live())
        if changed and not runs(host, journal.uuid, journal.vm):
            yield Seen(
                f"{counted(changed, 'value')} {verb(changed)} still changed for {journal.vm}, "
                f"which is not running",
                f"vfio-hooks undo {quote(journal.vm)}",
            )


RULES = (damaged, stale)
