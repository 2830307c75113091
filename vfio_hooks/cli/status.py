"""`vfio-hooks status`: what is changed on this host now, and by which VM."""

import argparse
import re
from collections.abc import Hashable, Sequence
from datetime import datetime
from functools import cache
from itertools import groupby

from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths, refuse_mistyped
from vfio_hooks.cli.folding import common_key, grouped
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.terminal import clean, complain, paint, say, say_json
from vfio_hooks.domain.files import names
from vfio_hooks.engine.journal import Claim, Journal, State
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.plan import undo_text
from vfio_hooks.engine.value import Value
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host
from vfio_hooks.host.view import View
from vfio_hooks.knobs import Knob
from vfio_hooks.record import asdict, record
from vfio_hooks.sharing import Once, is_shared, shown

_EPILOG = """\
Every line is "what: the host's own value → the value now", with the value that the VM's end will
restore. A service that should run as long as the VM, such as the watch of [gpu], is marked if it
has died. The exit code is 1 if a journal is damaged: no VM with a vm.toml can start then.

examples:
  vfio-hooks status
  vfio-hooks status win11
  vfio-hooks status --json | jq '.vms[].changes[].key'
"""


_DIGIT = re.compile("[0-9]")


@record
class Standing:
    """One thing that a VM has changed. `restores` is the value that the VM's end will give it, or
    None if it will be left as it is, for the reason in `note`. The note is also there if somebody
    has put the value back already, as when a helper program has ended."""

    plugin: str
    key: str
    event: str
    since: str
    until: str
    state: str
    base: str | None
    live: str | None
    restores: str | None
    note: str | None


@record
class Vm:
    """A VM with changes. `cut_off` is the event that began and never ended; `busy` says that it
    may be running right now."""

    name: str
    uuid: str
    cut_off: str | None
    busy: bool
    changes: tuple[Standing, ...]


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "status",
        run,
        line="show what is changed now, and for which VM",
        description="Show what vfio-hooks has changed on this host and not undone yet.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, nargs="?", help="name or UUID of one VM")
    add_paths(parser, "root", "state-dir")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    folder = here.folder()
    try:
        ledger = Ledger(folder).read_all()
        busy = folder.is_busy()
    except PermissionError:
        raise HookError(f"only root can read {folder.path}", "try again with sudo") from None
    known = names(here.host())
    for journal in ledger.journals.values():
        journal.rename(known.get(journal.uuid, journal.vm))
    values = _Values(View(here.host()), ledger)
    vms = [
        _vm(journal, values, busy)
        for journal in ledger.journals.values()
        if arguments.vm in (None, journal.vm, journal.uuid, *journal.names)
    ]
    if arguments.vm is not None and not vms and not ledger.damaged:
        refuse_mistyped(arguments.vm, ledger, here)
    damaged = [str(error) for error in ledger.damaged.values()]
    if arguments.json:
        say_json({"vms": [asdict(vm) for vm in vms], "damaged": damaged})
    else:
        if vms or not damaged:
            _show(vms, arguments.vm)
        for line in damaged:
            complain(line)
    return int(bool(damaged))


class _Values:
    """The values that VMs have changed, each read once, as all VMs may share one."""

    def __init__(self, host: Host, ledger: Ledger) -> None:
        self._host = host
        self._ledger = ledger
        self._known: dict[tuple[str, str], Value | HookError] = {}

    def of(self, knob: Knob) -> Value:
        """Raises HookError if it cannot be read."""
        place = knob.kind, knob.key
        if place not in self._known:
            try:
                self._known[place] = self._read(knob)
            except HookError as error:
                self._known[place] = error
        found = self._known[place]
        if isinstance(found, HookError):
            raise found
        return found

    def death(self, knob: Knob) -> str | None:
        """A note for people if a service that should still run has died."""
        try:
            unit = knob.died(self._host)
        except HookError as error:
            return error.problem
        return f"it has died; journalctl -u {unit}" if unit else None

    def _read(self, knob: Knob) -> Value:
        return Value(knob.read(self._host), self._ledger.counting(knob, self._host), self._host)


def _vm(journal: Journal, values: _Values, busy: bool) -> Vm:
    changes = tuple(_standing(claim, values) for claim in journal.live())
    return Vm(journal.vm, journal.uuid, journal.event, busy, changes)


def _standing(claim: Claim, values: _Values) -> Standing:
    live, restores, note = _outcome(claim, values)
    return Standing(
        plugin=claim.step.plugin,
        key=claim.step.key,
        event=claim.event,
        since=_date(int(claim.time)),
        until=claim.step.until,
        state=claim.state.value,
        base=claim.base if is_shared(claim.step.share) else None,
        live=live,
        restores=restores,
        note=note,
    )


@cache
def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "seconds")


def _outcome(claim: Claim, values: _Values) -> tuple[str | None, str | None, str | None]:
    """The value now, what the VM's end will make it, and why it will not be changed."""
    if isinstance(claim.step.share, Once):
        return None, None, undo_text(claim.step, "")
    if not is_shared(claim.step.share):
        return None, undo_text(claim.step, ""), values.death(claim.step.knob)
    try:
        value = values.of(claim.step.knob)
    except HookError as error:
        return None, None, error.problem
    live = value.live
    if claim.state is State.LOST:
        return live, None, "somebody else has changed it since, so it will be left alone"
    restores = value.without(claim)
    if restores is None:
        return live, None, "somebody else has changed it since, so it will be left alone"
    if claim.state is State.WAITING:
        return live, restores, f"it waits for CPUs that are offline: {claim.goal}"
    wanted = value.wanted(claim.base)
    gone = (
        live == restores and claim.state is State.HELD and not value.shows(claim.step.knob, wanted)
    )
    return live, restores, f"it is no longer {wanted}" if gone else None


def _show(vms: Sequence[Vm], wanted: str | None) -> None:
    if not vms:
        say("nothing is changed" + (f" by {clean(wanted)}" if wanted else ""))
    for vm in vms:
        say(f"{paint(clean(vm.name), 'bold')} ({vm.uuid})")
        if vm.cut_off and vm.busy:
            say(paint(f"{vm.cut_off} is being handled now, or was cut off", "yellow"), 1)
        elif vm.cut_off:
            cleaner = "the next event of any VM, or vfio-hooks undo, cleans up"
            say(paint(f"{vm.cut_off} was cut off: {cleaner}", "yellow"), 1)
        for plugin, changes in groupby(vm.changes, lambda change: change.plugin):
            say(plugin, 1)
            for group in grouped(list(changes), _likeness):
                _show_change(group[0], common_key([change.key for change in group]))


def _likeness(change: Standing) -> Hashable:
    """Equal for changes whose keys differ only in a number; their times may differ."""
    about = _DIGIT.split(change.key, 1)[0], change.plugin, change.event, change.until, change.state
    return about, change.base, change.live, change.restores, change.note


def _show_change(change: Standing, key: str) -> None:
    live = "unknown" if change.live is None else shown(change.live)
    values = "" if change.base is None else f": {shown(change.base)} → {live}"
    if change.base is not None and change.base == change.live:
        values = f": {change.live}" + ("" if change.note else " (stays)")
    say(clean(f"{key}{values}"), 2)
    end = f"at {change.until}: {change.restores}"
    if change.note:
        end = paint(clean(change.note), "yellow")
    doubt = "" if change.state in ("held", "lost") else f", {change.state}"
    say(f"{paint(f'since {change.since} ({change.event}{doubt})', 'dim')}; {end}", 3)
