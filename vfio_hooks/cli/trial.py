"""A first vm.toml on trial: tables that would keep the VM from starting are left out."""

from collections.abc import Sequence
from shlex import quote

from vfio_hooks import PLANNED, VM_FILE
from vfio_hooks.cli.forecast import forecast
from vfio_hooks.config import of_text
from vfio_hooks.config.starter import Choice, toml
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError
from vfio_hooks.event import Event
from vfio_hooks.migrate import doing
from vfio_hooks.paths import Paths
from vfio_hooks.record import replace

_NOWHERE = "/nonexistent"


def tried(domain: Domain, made: Sequence[Choice], here: Paths) -> list[Choice]:
    """The same tables; those that the plan on this host refuses are left out, with the reason."""
    choices, events = list(made), [Event(domain.name, op) for op in PLANNED]
    for _ in made:
        failures = _failures(domain, choices, here, events)
        refused = {failure.problem.partition(":")[0]: failure for failure in failures}
        found = [one for one in choices if one.chosen and _name(one) in refused]
        if not found:
            break
        choices = [_without(one, refused[_name(one)]) if one in found else one for one in choices]
    return choices


def beside_scripts(domain: Domain, made: Sequence[Choice], here: Paths) -> list[Choice]:
    """The same tables, without those that do what a script of the VM does already."""
    done = doing(here.config, domain.name, here.root)
    return [
        replace(
            one,
            why=f"{one.why}; but {done[_name(one)]} does that: vfio-hooks migrate "
            f"{quote(domain.name)} shows how this table takes its place",
            chosen=False,
        )
        if one.chosen and _name(one) in done
        else one
        for one in made
    ]


def _failures(
    domain: Domain, choices: Sequence[Choice], here: Paths, events: Sequence[Event]
) -> tuple[HookError, ...]:
    try:
        config = of_text(toml(domain, choices), VM_FILE)
        # What another VM holds now does not matter for a file.
        paths = replace(here, state=_NOWHERE)
        return forecast(domain, config, paths, events).outlooks[-1].failures
    except HookError as error:
        return (error,)


def _name(choice: Choice) -> str:
    return choice.table.strip("[]")


def _without(choice: Choice, failure: HookError) -> Choice:
    problem = failure.problem.partition(": ")[2]
    why = f"{choice.why}; but with it the VM would not start now: {problem}"
    return replace(choice, why=why, chosen=False, problems=choice.problems or (_said(failure),))


def _said(failure: HookError) -> str:
    problem = failure.problem.partition(": ")[2]
    return f"{problem}: {failure.hint}" if failure.hint else problem
