"""Handles an event: carries a plan out or undoes it, and runs executables.

The configuration, and with it the plugins, is imported only where it is needed. An undo has to work
without it, in a package that is half upgraded, or with a module that cannot be imported.
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
    """Do what an event needs. Raises HookError, and other exceptions for a defect."""
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
        # Executables may change anything. So an error in the plan is reported before they run, and
        # the plan is made again afterwards, for the host as they left it.
        engine.rehearse(event.op, domain.uuid, event.vm, planner)
        _run_scripts(event, xml, config, log)
    held = engine.perform(event.op, domain.uuid, event.vm, planner)
    if event.op == "prepare":
        notes.keep([*idle_events(domain, config, engine.host, held)])
        _after_start(event, domain, config, engine.host, log)


def _after_start(
    event: Event, domain: Domain, config: Config, host: WritableHost, log: Log
) -> None:
    """Let the facilities note what they know after a start that succeeded so far."""
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
    """Run the VM's executables, or with dry_run only log which these are."""
    paths = _scripts(event, config)
    if config.general.dry_run:
        for path in paths:
            log.info(f"{event.vm}: would run {path}", event.vm)
    elif paths:
        from vfio_hooks.hook.scripts import run

        run(paths, event, xml, config.general.script_timeout, log)


def _end(event: Event, xml: bytes, paths: Paths, log: Log) -> None:
    """Undo first, and then run the VM's executables, even if the undo failed."""
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
    """Undo the VM's changes. Returns whether there were any."""
    folder = paths.folder()
    known = identify(xml)
    # Without usable XML, the name has to be enough: the journals have it as well.
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
    """Run the executables that undo what others did at the start. They run whatever vm.toml says by
    now, even if it is wrong. Returns what failed."""
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
