"""Faults of the host that the kernel has logged since boot."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.errors import HookError
from vfio_hooks.why import explain
from vfio_hooks.why.lines import of_boot


@rule(
    "kernel-said",
    "host",
    "warning",
    why="The kernel has logged this since boot. `vfio-hooks why` shows what it logged, and when.",
    source="vfio-hooks(1), why",
    sure="likely",
)
def said(patient: Patient) -> Iterator[Seen]:
    if not patient.host.is_this_machine:
        return
    try:
        lines = of_boot(0)
    except HookError:
        # Only root, or a member of the group adm, may read it.
        return
    for one in explain(lines):
        if one.known and one.known.boot:
            times = f" ({one.count} times)" if one.count > 1 else ""
            yield Seen(f"{one.line.text}{times}: {one.meaning}", one.remedy)


RULES = (said,)
