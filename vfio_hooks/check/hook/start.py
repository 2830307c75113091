"""Whether the VM would start today: what its plan says."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule


@rule(
    "start-refused",
    "hook",
    "error",
    why="This is what `vfio-hooks plan` works out for the VM's vm.toml on this host, as it is now. "
    "The hook would refuse the start with the same words.",
    source="vfio-hooks(1), plan",
)
def refused(patient: Patient) -> Iterator[Seen]:
    for failure in patient.refusals:
        yield Seen(f"a start would be refused: {failure.problem}", failure.hint)


RULES = (refused,)
