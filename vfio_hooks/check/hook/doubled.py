"""Scripts of a VM that do the same as a table of its vm.toml."""

from collections.abc import Iterator
from shlex import quote

from vfio_hooks.check.hook import managed
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.migrate import doing


@rule(
    "script-doubles-table",
    "hook",
    "warning",
    why="What is done twice may take twice as much, as with hugepages, or one undoes it while "
    "the other still needs it.",
    source="vfio-hooks-migration(7)",
    sure="likely",
)
def doubled(patient: Patient) -> Iterator[Seen]:
    guest = patient.guest
    if guest is None or guest.domain.name not in managed(patient):
        return
    vm = guest.domain.name
    for table, where in doing(patient.paths.config, vm, patient.paths.root).items():
        if table in patient.tables:
            yield Seen(
                f"{where}: the script does the same as [{table}]",
                f"remove that from the script; vfio-hooks migrate {quote(vm)} shows how",
            )


RULES = (doubled,)
