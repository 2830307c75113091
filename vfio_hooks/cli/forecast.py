"""What events would do to this host, worked out without doing any of it, and its printing."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any

from vfio_hooks import PLANNED
from vfio_hooks.cli.folding import folded
from vfio_hooks.cli.terminal import clean, complain, paint, say, say_json
from vfio_hooks.config import Config
from vfio_hooks.domain import Domain, guarded
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import Change, check, preview
from vfio_hooks.engine.state import StateFolder
from vfio_hooks.engine.undone import UndoneHost
from vfio_hooks.errors import HookError, Several, Unread, raise_all
from vfio_hooks.event import Event
from vfio_hooks.hook.facilities import doubts, plan_all
from vfio_hooks.hook.scripts import find
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths
from vfio_hooks.record import record
from vfio_hooks.sharing import Once, is_shared
from vfio_hooks.steps import Step


class NoState(StateFolder):
    """The state folder of a host on which nothing is changed."""

    def uuids(self) -> list[str]:
        return []


@record
class Notes:
    """A log whose warnings become notes of a forecast."""

    lines: list[str]

    def info(self, text: str, vm: str = "") -> None:
        """Do nothing: what goes well needs no note."""

    def warning(self, text: str, vm: str = "") -> None:
        self.lines.append(text)


@record
class Outlook:
    """What one event would change, or why it would fail and change nothing. `scripts` are the
    VM's own executables, which run before: what they change is theirs to undo."""

    event: str
    changes: tuple[Change, ...] = ()
    failure: HookError | None = None
    scripts: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[HookError, ...]:
        """The failures, one for each table."""
        if isinstance(self.failure, Several):
            return self.failure.errors
        return (self.failure,) if self.failure else ()


@record
class Forecast:
    """What a VM's events would do, in their order, up to the first that would fail. `notes` are
    other things that the user should know."""

    domain: Domain
    outlooks: tuple[Outlook, ...]
    notes: tuple[str, ...]


def forecast(domain: Domain, config: Config, paths: Paths, events: Sequence[Event]) -> Forecast:
    """Work out what each of the events would do after those before it.

    The values are those that the host has now, or will have after what a start undoes first.
    Raises HookError if the state folder cannot be used, as the events themselves would.
    """
    ledger, notes = _ledger(paths.folder())
    ledger.require_whole()
    if config.general.dry_run:
        notes.append("dry_run is on: libvirt's events only log this plan")
    host = UndoneHost(paths.root)
    notes += _undone_before(ledger, domain, host, events[0])
    for table in config.tables:
        if tell_more := getattr(table.plugin, "notes", None):
            # If a table needs what cannot be read, that is a failure of its own.
            with suppress(Unread):
                told = tell_more(guarded(domain), table.options, host)
                notes += (f"{table.name}: {note}" for note in told)
    ahead = _Ahead(domain, config, host, ledger, Notes(notes))
    outlooks = []
    for event in events:
        outlooks.append(ahead.look(event))
        if outlooks[-1].failure:
            break
    told = " ".join(map(str, outlooks[-1].failures))
    unread = dict.fromkeys(domain.unread.values())
    notes += (f"{why}; no table needs that" for why in unread if why not in told)
    return Forecast(domain, tuple(outlooks), tuple(notes))


def _undone_before(ledger: Ledger, domain: Domain, host: UndoneHost, event: Event) -> Iterator[str]:
    """Take into account what a start undoes before it makes its plan, with a note for each."""
    journal = ledger.journals.get(domain.uuid)
    if journal and journal.live() and event.op == "prepare":
        if not journal.only_waits():
            yield (
                f"{domain.name} has changes in place, which its start would undo first: vfio-hooks "
                f"status {domain.uuid}"
            )
        host.undo(journal, ledger)
    for journal in ledger.unfinished():
        yield (
            f"{journal.event} of {journal.vm} is being handled now, or was cut off; a start "
            f"would first undo what a cut-off event did"
        )
        host.undo(journal, ledger)


class _Ahead:
    """The host as it would be after the events that have been looked at."""

    def __init__(
        self, domain: Domain, config: Config, host: Host, ledger: Ledger, notes: Notes
    ) -> None:
        self._domain = domain
        self._config = config
        self._host = host
        self._ledger = ledger
        self._notes = notes
        self._steps: list[Step] = []

    def look(self, event: Event) -> Outlook:
        try:
            scripts = self._scripts(event)
            if event.op not in PLANNED:
                return Outlook(event.op, scripts=scripts)
            planned = plan_all(event, self._domain, self._config, self._host, self._notes)
            steps = self._steps + planned
            # Only a plan of one event must not contradict itself; a later event may go on.
            check(planned, self._domain.uuid, self._ledger, self._host)
            changes = preview(steps, self._host, self._ledger)[len(self._steps) :]
            if event.op == "prepare":
                raise_all(doubts(self._domain, self._config, self._host))
        except HookError as error:
            return Outlook(event.op, failure=error)
        self._steps = steps
        return Outlook(event.op, tuple(changes), scripts=scripts)

    def _scripts(self, event: Event) -> tuple[str, ...]:
        # With --use there is no folder.
        return tuple(find(self._config.folder, event)) if self._config.folder else ()


def as_json(found: Forecast) -> dict[str, Any]:
    """A forecast for programs."""
    return {
        "vm": found.domain.name,
        "uuid": found.domain.uuid,
        "notes": list(found.notes),
        "events": [
            {
                "event": outlook.event,
                "failure": str(outlook.failure) if outlook.failure else None,
                "failures": [str(failure) for failure in outlook.failures],
                "runs": list(outlook.scripts),
                "changes": [_change_as_json(change) for change in outlook.changes],
            }
            for outlook in found.outlooks
        ],
    }


def tell(found: Forecast, json: bool = False) -> int:
    """Print a forecast, and the failures that it ends with, a line each; the exit code."""
    if json:
        say_json(as_json(found))
    else:
        _show(found)
    last = found.outlooks[-1]
    for failure in last.failures:
        complain(f"{last.event} would fail: {failure}")
    return int(bool(last.failures))


def _show(found: Forecast) -> None:
    """Events, in them facilities, in them changes with what undoes them."""
    say(f"{paint(clean(found.domain.name), 'bold')} ({found.domain.uuid})")
    for note in found.notes:
        say(paint(f"note: {clean(note)}", "yellow"))
    eventful = [one for one in found.outlooks if one.changes or one.scripts or one.failure]
    for outlook in eventful:
        say()
        _show_outlook(outlook)
    if not eventful:
        say()
        say("changes nothing")


def _show_outlook(outlook: Outlook) -> None:
    say(paint(outlook.event, "bold"))
    if outlook.failure:
        say(paint("would fail, and change nothing", "red"), 1)
    for path in outlook.scripts:
        warning = ": it has to undo its own changes" if outlook.event in PLANNED else ""
        say(paint(f"runs {clean(path)}{warning}", "yellow"), 1)
    for plugin, changes in groupby(outlook.changes, lambda change: change.step.plugin):
        say(plugin, 1)
        for line, change in folded(list(changes)):
            say(clean(line), 2)
            say(_undo(change), 3)


def _ledger(folder: StateFolder) -> tuple[Ledger, list[str]]:
    try:
        return Ledger(folder).read_all(), []
    except PermissionError:
        note = (
            f"{folder.path} can only be read by root, so this plan does not know what other VMs "
            f"have changed"
        )
        return Ledger(NoState()), [note]


def _undo(change: Change) -> str:
    if isinstance(change.step.share, Once):
        return paint(clean(change.undo), "yellow")
    return paint(f"undone at {change.step.until}: {clean(change.undo)}", "dim")


def _change_as_json(change: Change) -> dict[str, Any]:
    once = isinstance(change.step.share, Once)
    return {
        "plugin": change.step.plugin,
        "key": change.step.key,
        "share": type(change.step.share).__name__.lower(),
        "old": change.old if is_shared(change.step.share) else None,
        "new": change.new,
        "text": str(change),
        "undone_at": None if once else change.step.until,
        "undo": None if once else change.undo,
    }
