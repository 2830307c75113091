"""`vfio-hooks undo`: undo what a VM left changed."""

import argparse

from vfio_hooks.cli.common import Verbs, add_paths, add_verb, need_root, paths, refuse_mistyped
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.terminal import TerminalLog, clean, say
from vfio_hooks.domain.files import names, runs
from vfio_hooks.engine import Engine
from vfio_hooks.engine.journal import Journal
from vfio_hooks.engine.ledger import Ledger
from vfio_hooks.engine.state import is_uuid
from vfio_hooks.errors import HookError
from vfio_hooks.hook.idle import Notes
from vfio_hooks.host import Host
from vfio_hooks.paths import Paths
from vfio_hooks.plural import counted
from vfio_hooks.sharing import Run, is_shared

_EPILOG = """\
This is for changes that no event of libvirt's has undone, as after a crash of libvirtd. It needs
neither the VM's configuration nor libvirt. A value that somebody else has changed since is left
alone.

examples:
  vfio-hooks status                            what is there to undo?
  vfio-hooks undo win11
  vfio-hooks undo --all
  vfio-hooks undo win11 --forget               give up what cannot be undone
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "undo",
        run,
        line="undo what a VM left changed",
        description="Undo what a VM left changed, newest first, and say what was undone.",
        epilog=_EPILOG,
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("vm", metavar=VM, nargs="?", help="name or UUID")
    which.add_argument("--all", action="store_true", help="undo the changes of all VMs")
    parser.add_argument(
        "--force", action="store_true", help="undo even while the VM runs; it keeps PCI devices"
    )
    parser.add_argument(
        "--forget",
        action="store_true",
        help="leave what cannot be undone as it is, and forget it",
    )
    add_paths(parser, "root", "state-dir")


def run(arguments: argparse.Namespace) -> int:
    here = paths(arguments)
    if here.host().is_this_machine:
        need_root("undo")
    known = names(here.host())
    uuids = here.folder().uuids() if arguments.all else _find(arguments.vm, here, known)
    ledger = Ledger(here.folder()).read_all()
    journals = ledger.journals
    for uuid, journal in journals.items():
        journal.rename(known.get(uuid, journal.vm))
    if not any(uuid in journals or uuid in ledger.damaged for uuid in uuids):
        say("nothing to undo" + ("" if arguments.all else f" for {clean(arguments.vm)}"))
    if not arguments.force:
        _refuse_running(uuids, here)
    problems = []
    for uuid in uuids:
        before = _values(journals.get(uuid), here.host())
        engine = Engine(here.host(), here.folder(), TerminalLog())
        failed = engine.undo("undo", uuid, known.get(uuid, ""))
        if failed and arguments.forget:
            for line in engine.forget(uuid):
                say(clean(line))
            continue
        problems += failed
        if uuid in journals and not failed:
            Notes(here.folder(), here.config, journals[uuid].vm).forget()
            _tell_end(journals[uuid], before, here.host())
    if problems:
        # Each has been printed already, with what to do about it.
        raise HookError(
            f"{len(problems)} of the changes could not be undone",
            "try again when that is fixed, or give them up with --forget",
        )
    return 0


def _values(journal: Journal | None, host: Host) -> dict[str, str | None]:
    """The current values of what a VM has changed, by key, as far as they can be read."""
    values: dict[str, str | None] = {}
    for claim in journal.live() if journal else ():
        try:
            is_value = is_shared(claim.step.share)
            values[claim.step.key] = claim.step.knob.read(host) if is_value else None
        except Exception:
            # Undoing itself says what is wrong with it.
            values[claim.step.key] = None
    return values


def _tell_end(journal: Journal, before: dict[str, str | None], host: Host) -> None:
    after = _values(journal, host)
    count = sum(value != before[key] for key, value in after.items())
    count += sum(isinstance(claim.step.share, Run) for claim in journal.live())
    text = f"{counted(count, 'change')} undone" if count else "nothing had to be undone"
    say(f"{clean(journal.vm)}: {text}")


def _find(vm: str, here: Paths, known: dict[str, str]) -> list[str]:
    """The UUID of the journal that is meant, if there is one: by the VM's name now, or else by the
    one that it was started with."""
    folder = here.folder()
    if is_uuid(vm.lower()):
        return [uuid for uuid in folder.uuids() if uuid == vm.lower()]
    found = [uuid for uuid in folder.uuids() if known.get(uuid) == vm] or folder.find(vm)
    if len(found) > 1:
        raise HookError(
            f"{len(found)} VMs named {vm} have changes", f"give the UUID of one: {', '.join(found)}"
        )
    if not found:
        ledger = Ledger(folder).read_all()
        # The journal that is meant may be among them.
        ledger.require_whole()
        refuse_mistyped(vm, ledger, here)
    return found


def _refuse_running(uuids: list[str], here: Paths) -> None:
    """A running VM's devices must not be taken from under it."""
    host: Host = here.host()
    for uuid, journal in Ledger(here.folder()).read_all().journals.items():
        if uuid in uuids and (file := runs(host, uuid, journal.vm)):
            raise HookError(
                f"{file.rpartition('/')[2].removesuffix('.xml')} is running ({file} exists)",
                "shut it down, which undoes its changes; or use --force, which lets it keep its "
                "PCI devices",
            )
