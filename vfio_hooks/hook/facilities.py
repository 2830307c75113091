"""Asks the facilities that a VM uses, one after the other, what they want from the host."""

from __future__ import annotations

from vfio_hooks.errors import HookError, of_table, raise_all
from vfio_hooks.host.view import View
from vfio_hooks.record import replace
from vfio_hooks.sharing import Exclusive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    # What handles events imports this module, and has to undo where these are broken.
    from vfio_hooks.config import Config
    from vfio_hooks.domain import Domain
    from vfio_hooks.event import Event
    from vfio_hooks.host import Host
    from vfio_hooks.log import Log
    from vfio_hooks.steps import Step


def doubts(domain: Domain, config: Config, host: Host) -> list[HookError]:
    """What will fail later on most hosts, as the VM's facilities expect. A plan counts it as a
    failure, but an event goes on."""
    found: list[HookError] = []
    for table in config.tables:
        if tell := getattr(table.plugin, "doubts", None):
            told = tell(domain, table.options, host)
            found += (of_table(doubt, table.name) for doubt in told)
    return found


def plan_all(event: Event, domain: Domain, config: Config, host: Host, log: Log) -> list[Step]:
    """The steps of all the facilities that a VM uses, in the plugins' order.

    Raises HookError for all tables that cannot be planned. A table that is not required is only
    logged.
    """
    from vfio_hooks.domain import guarded

    domain = guarded(domain)
    steps: list[Step] = []
    of_name: dict[str, list[Step]] = {}
    wrong: list[HookError] = []
    for table in config.tables:
        try:
            seen = _ahead(host, of_name.get(table.name, ()))
            planned = list(table.plugin.plan(event, domain, table.options, seen))
        except HookError as error:
            if table.required:
                wrong.append(of_table(error, table.name))
            else:
                log.warning(f"{event.vm}: going on without [{table.name}]: {error}", event.vm)
        else:
            of_name.setdefault(table.name, []).extend(planned)
            steps += (replace(step, required=table.required and step.required) for step in planned)
    raise_all(wrong)
    return steps


def _ahead(host: Host, steps: Sequence[Step]) -> Host:
    """The host as the next of several tables with the same name sees it: with the devices that the
    tables before it make, or take for the VM."""
    if not steps:
        return host
    view = View(host)
    for step in steps:
        if isinstance(step.share, Exclusive) and step.share.value is not None:
            view.expect(step.knob.foresee(view, step.share.value))
    return view
