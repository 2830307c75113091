"""Whether the VM would start today: what its plan says."""

from collections.abc import Iterator

from vfio_hooks.check.rule import Patient, Seen, rule


@rule(
    "start-refused",
    "hook",
    "error",
    why="This is the result of `vfio-hooks plan` for the VM's vm.toml on this host as it is now. "
    "The hook would refuse the start with the same error.",
    source="vfio-hooks(1), plan",
)
def refused(patient: Patient) -> Iterator[Seen]:
    for failure in patient.refusals:
        yield Seen(f"the VM would not start: {failure.problem}", failure.hint)


RULES = (refused,)
