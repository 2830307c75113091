"""What an event of libvirt's asks for: a plan carried out or undone, and executables run.

The configuration, and with it the plugins, is imported only where it is needed: undoing has to
work without, in a package that is half upgraded or beside a module that cannot be imported.
"""

from __future__ import annotations

import os

from vfio_hooks import ENDING, PLANNED, VM_FOLDERS
from vfio_hooks.domain import identify, parse
from vfio_hooks.engine import Engine, Given
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.errors import HookError, Interrupted, Strict, told
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import doubts, plan_all
from vfio_hooks.hook.idle import Notes, idle_events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vfio_hooks.config import Config
    from vfio_hooks.domain import Domain
    from vfio_hooks.engine.state import StateFolder
    from vfio_hooks.host import WritableHost
    from vfio_hooks.log import Log
    from vfio_hooks.paths import Paths
    from vfio_hooks.steps import Step


def handle(event: Event, xml: bytes, paths: Paths, log: Log) -> None:
    """Do what an event asks for. Raises HookError, and whatever else a defect raises."""
    if event.op in ENDING:
        _end(event, xml, paths, log)
        return
    notes = Notes(paths.folder(), paths.config, event.vm)
    from vfio_hooks.config import load

    config = load(paths.config, event.vm)
    if config is None:
        return
    try:
        if event.op in PLANNED:
            _perform(event, xml, config, paths, log, notes)
        else:
            _run_scripts(event, xml, config, log)
    except Exception as error:
        if config.general.dry_run:
            log.warning(f"{event.vm}: would fail: {told(error)}", event.vm)
            return
        if isinstance(error, HookError) and event.op == "started" and config.general.strict_started:
            raise Strict(error.problem, error.hint) from error
        raise


def _perform(
    event: Event, xml: bytes, config: Config, paths: Paths, log: Log, notes: Notes
) -> None:
    domain = parse(xml)
    engine = Engine(paths.host(), paths.folder(), log)
    log.info(f"{event.vm}: {event.op}", event.vm)
    for why in dict.fromkeys(domain.unread.values()):
        log.info(f"{event.vm}: {why}", event.vm)

    def planner(given: Given) -> list[Step]:
        steps = plan_all(event, domain, config, given.host, log)
        if any(step.until == "stopped" for step in steps):
            notes.forget("stopped")
        return steps

    if event.op == "prepare":
        notes.forget()
        for doubt in doubts(domain, config, engine.host):
            log.warning(f"{event.vm}: {doubt}", event.vm)
    if config.general.dry_run:
        _run_scripts(event, xml, config, log)
        for change in engine.rehearse(event.op, domain.uuid, event.vm, planner):
            log.info(f"{event.vm}: would be: {change.step.plugin}: {change}", event.vm)
        return
    if _scripts(event, config):
        # They may do anything, so whatever is wrong with the plan is told before they run. Then
        # it is made again, for the host as they left it.
        engine.rehearse(event.op, domain.uuid, event.vm, planner)
        _run_scripts(event, xml, config, log)
    held = engine.perform(event.op, domain.uuid, event.vm, planner)
    if event.op == "prepare":
        notes.keep([*idle_events(domain, config, engine.host, held)])
        _after_start(event, domain, config, engine.host, log)


def _after_start(
    event: Event, domain: Domain, config: Config, host: WritableHost, log: Log
) -> None:
    """Let the facilities note what a start that has come this far has taught them."""
    for table in config.tables:
        if tell := getattr(table.plugin, "after_start", None):
            try:
                tell(domain, table.options, host)
            except OSError as error:
                log.info(f"{event.vm}: {table.name}: this could not be noted: {error}", event.vm)


def _scripts(event: Event, config: Config) -> list[str]:
    if not os.path.exists(f"{config.folder}/{event.op}"):
        return []
    from vfio_hooks.hook.scripts import find

    return find(config.folder, event)


def _run_scripts(event: Event, xml: bytes, config: Config, log: Log) -> None:
    """Run the VM's executables, or with dry_run tell which these are."""
    paths = _scripts(event, config)
    if config.general.dry_run:
        for path in paths:
            log.info(f"{event.vm}: would run {path}", event.vm)
    elif paths:
        from vfio_hooks.hook.scripts import run

        run(paths, event, xml, config.general.script_timeout, log)


def _end(event: Event, xml: bytes, paths: Paths, log: Log) -> None:
    """Undo, first of all, and then run the VM's executables, whatever went wrong with that."""
    problems: list[Exception] = []
    had_begun = True
    try:
        had_begun = _undo(event, xml, paths, log)
    except Interrupted:
        raise
    except Exception as error:
        problems.append(error)
    problems += _run_last_scripts(event, xml, paths, had_begun, log)
    if event.op == "release":
        Notes(paths.folder(), paths.config, event.vm).forget()
    if problems:
        raise HookError("; ".join(dict.fromkeys(map(told, problems))))


def _undo(event: Event, xml: bytes, paths: Paths, log: Log) -> bool:
    """Returns whether anything was changed for the VM."""
    folder = paths.folder()
    known = identify(xml)
    # Without usable XML the name has to do: it is in the journals, too.
    uuids = [known[1]] if known else folder.find(event.vm)
    changed = [uuid for uuid in uuids if uuid in folder.uuids()]
    engine = Engine(paths.host(), folder, log)
    for uuid in changed:
        log.info(f"{event.vm}: {event.op} ({event.extra})", event.vm)
        engine.undo(event.op, uuid, event.vm)
    if not changed and not folder.is_busy() and _is_cut_off(folder):
        engine.recover()
    return bool(changed)


def _is_cut_off(folder: StateFolder) -> bool:
    """Whether the event of some VM began and never ended."""
    return folder.is_unsettled() or bool(Ledger(folder).unfinished())


def _run_last_scripts(
    event: Event, xml: bytes, paths: Paths, had_begun: bool, log: Log
) -> list[HookError]:
    """Run the executables that take back what others did at the start: what was written into
    vm.toml since, right or wrong, does not keep them from it. Returns what failed."""
    folder = f"{paths.config}/{VM_FOLDERS}/{event.vm}"
    if not os.path.exists(f"{folder}/{event.op}"):
        return []
    from vfio_hooks.config import Config, examine, general

    config, problems = examine(paths.config, event.vm)
    if config is None and not problems:
        return []
    config = config or Config(general=general(paths.config, event.vm), folder=folder)
    if config.general.dry_run and not had_begun:
        _run_scripts(event, xml, config, log)
        return []
    from vfio_hooks.hook.scripts import run_all

    return problems + run_all(folder, event, xml, config.general.script_timeout, log)
