"""What the hook has left behind: journals of VMs that do not run."""

import os
from collections.abc import Iterator
from shlex import quote

from vfio_hooks.check.hook import state
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.errors import HookError

_RUNNING = "/run/libvirt/qemu"
_SOURCE = "vfio-hooks(1), FILES"


@rule(
    "journal-damaged",
    "hook",
    "error",
    why="A journal has what is to be undone. While one cannot be read, no managed VM starts.",
    source=_SOURCE,
)
def damaged(patient: Patient) -> Iterator[Seen]:
    journals = state(patient)
    for uuid in journals.uuids():
        try:
            journals.load(uuid)
        except HookError as error:
            yield Seen(error.problem, error.hint)


@rule(
    "journal-stale",
    "hook",
    "warning",
    why="The host is still changed for a VM that does not run, as after a crash of libvirt's "
    "daemon.",
    source=_SOURCE,
)
def stale(patient: Patient) -> Iterator[Seen]:
    journals, host = state(patient), patient.host
    # Only root can tell; the other rule says so.
    if not host.exists(_RUNNING) or not os.access(journals.path, os.R_OK) or journals.is_busy():
        return
    running = host.names(_RUNNING)
    for uuid in journals.uuids():
        try:
            journal = journals.load(uuid)
        except HookError:
            continue
        if journal.live() and f"{journal.vm}.xml" not in running:
            yield Seen(
                f"{len(journal.live())} values are changed for {journal.vm}, which does not run",
                f"vfio-hooks undo {quote(journal.vm)}",
            )


RULES = (damaged, stale)
