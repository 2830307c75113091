"""Scripts of a VM that do the same as a table of its vm.toml."""

import os
from collections.abc import Iterator
from shlex import quote

from vfio_hooks.check.hook import managed
from vfio_hooks.check.rule import Patient, Seen, rule
from vfio_hooks.migrate import scripts


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
    try:
        found = scripts(patient.paths.config, vm, patient.paths.root)
    except OSError:
        # Another rule tells of what cannot be read.
        return
    lines: dict[str, list[str]] = {}
    for script in found:
        for one in script.verdicts:
            if one.kind == "table" and one.table in patient.tables:
                where = f"{os.path.basename(one.file)}:{one.line}"
                lines.setdefault(one.table, []).append(where)
    for table, paths in lines.items():
        where = ", ".join(dict.fromkeys(paths))
        yield Seen(
            f"{where}: the script does the same as [{table}]",
            f"remove that from the script; vfio-hooks migrate {quote(vm)} shows how",
        )


RULES = (doubled,)
