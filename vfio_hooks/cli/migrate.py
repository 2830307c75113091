"""`vfio-hooks migrate`: what a VM's scripts do, and a vm.toml that does the same."""

import argparse
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from vfio_hooks import ENDING, HOST_FILE, PLANNED, VM_FILE, VM_FOLDERS
from vfio_hooks.cli.common import Verbs, add_json, add_paths, add_verb, paths
from vfio_hooks.cli.domains import add_domain, one_domain
from vfio_hooks.cli.forecast import forecast
from vfio_hooks.cli.metavars import VM
from vfio_hooks.cli.redefine import ask
from vfio_hooks.cli.terminal import Style, clean, paint, say, say_json
from vfio_hooks.config import load
from vfio_hooks.domain import Domain
from vfio_hooks.errors import HookError, unreadable
from vfio_hooks.event import OPERATIONS, Event
from vfio_hooks.host.memory import default_page_size
from vfio_hooks.migrate import Script, scripts
from vfio_hooks.migrate.aside import FOLDER, Change, carry_out, changes, put_back
from vfio_hooks.migrate.pages import compared
from vfio_hooks.migrate.tables import Table, tables, toml
from vfio_hooks.migrate.verdict import Sort, Verdict
from vfio_hooks.paths import Paths
from vfio_hooks.record import asdict, replace

_WORDS: dict[Sort, tuple[str, Style]] = {
    "table": ("", "green"),
    "needless": ("not needed", "dim"),
    "keep": ("keep", "bold"),
    "mistake": ("mistake", "yellow"),
    "unread": ("not read", "red"),
}
_USUAL_PAGE = 2048
_EPILOG = f"""\
It reads the executables in the VM's folder and in qemu.d itself, a hook that was kept or replaced,
and the files that these source or call. It runs none of them. For each line that changes the host,
it says which table of vm.toml does the same, or that nothing is needed, or that only a script can
do it. Lines stay a script if a test that is made when it runs, such as for mains power, decides
between two values. A script that cannot be understood from some line on is left as it is. Tables
that might do the same as such a script are left out.

With --write, the vm.toml is written if the VM would start with it on this host, and the scripts
are moved to {FOLDER} in the VM's folder. A script that still has something to do stays, and the
lines that are replaced become comments. --undo undoes all of that.

examples:
  vfio-hooks migrate win11
  sudo vfio-hooks migrate win11 --write
  sudo vfio-hooks migrate win11 --undo
"""


def register(verbs: Verbs) -> None:
    parser = add_verb(
        verbs,
        "migrate",
        run,
        line="say what a VM's scripts do, and write a vm.toml that does the same",
        description="Say line by line what a VM's scripts do, and write a vm.toml that does the "
        "same.",
        epilog=_EPILOG,
    )
    parser.add_argument("vm", metavar=VM, help="name of the VM")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--write", action="store_true", help="write the vm.toml, and move the scripts away"
    )
    how.add_argument("--undo", action="store_true", help="go back to the scripts")
    parser.add_argument("--yes", action="store_true", help="write without asking")
    add_domain(parser)
    add_paths(parser, "root", "config-dir")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    here, vm = paths(arguments), arguments.vm
    home = f"{here.config}/{VM_FOLDERS}/{vm}"
    if arguments.undo:
        for path in put_back(home, f"{home}/{VM_FILE}"):
            say(f"{clean(path)} is back")
        return 0
    try:
        found = scripts(here.config, vm, here.root)
    except OSError as error:
        raise unreadable(error.filename, error) from None
    migrated = os.path.lexists(f"{home}/{FOLDER}")
    if not migrated and not any(script.verdicts for script in found):
        raise HookError(
            f"{vm} has no scripts: there are no executables in {home}/prepare/begin or similar "
            f"folders",
            "vfio-hooks init writes a first vm.toml",
        )
    found = _compared(found, arguments, here)
    cut = changes(found, home)
    made, doubled = _tables(found, cut)
    if arguments.json:
        say_json({"vm": vm, "scripts": [_as_json(one) for one in found], "tables": made})
    else:
        for script in found:
            _show(script)
        _show_tables(made, doubled)
    if migrated and not arguments.json and all(change.text == change.script.text for change in cut):
        say(f"{vm} is migrated, and nothing is left to do; --undo goes back to its scripts")
        return 0
    if not arguments.write:
        return 0
    return _carry_out(arguments, here, cut, made)


def _compared(found: list[Script], arguments: argparse.Namespace, here: Paths) -> list[Script]:
    """The scripts, compared with the VM's memory; unchanged if libvirt cannot be asked."""
    try:
        domain = one_domain(arguments, here.host()).domain
    except HookError:
        if arguments.xml:
            raise
        return found
    usual = default_page_size(here.host()) or _USUAL_PAGE
    return [compared(script, domain, usual) for script in found]


def _tables(
    found: Sequence[Script], cut: Sequence[Change]
) -> tuple[dict[str, list[Table]], set[str]]:
    """The tables, and the names of those that are left out, because a script that stays as it is
    may still do the same."""
    handled = {change.script.path for change in cut}
    stays = Verdict("", 0, "", "unread", "")
    return tables(
        [
            script
            if script.path in handled or not script.is_run
            else replace(script, verdicts=(*script.verdicts, stays))
            for script in found
        ]
    )


def _show(script: Script) -> None:
    op = f" ({script.op} {OPERATIONS[script.op]})" if script.op else ""
    op = op if script.is_run else " (not run any more)"
    say(f"{paint(clean(script.path), 'bold')}{op}")
    for (file, line), several in groupby(script.verdicts, lambda one: (one.file, one.line)):
        place = f"{line:5}" if file == script.path else f"{clean(os.path.basename(file))}:{line}"
        # One line may do the same thing to many files: then the first one is shown.
        shown: dict[tuple[str, str], Verdict] = {}
        for one in several:
            shown.setdefault((one.kind, one.table), one)
        for one in shown.values():
            word, style = _WORDS[one.kind]
            told = " ".join(filter(None, (word, f"[{one.table}]" if one.table else "")))
            say(f"{place}  {clean(one.command)[:90]}")
            say(f"{paint(told, style)}: {one.why}", 4)
    counts = Counter(one.kind for one in script.verdicts)
    words = {kind: word or "by a table" for kind, (word, _) in _WORDS.items()}
    say(", ".join(f"{counts[kind]} {words[kind]}" for kind in words if counts[kind]), 1)


def _show_tables(made: dict[str, list[Table]], doubled: set[str]) -> None:
    say()
    say(paint("vm.toml", "bold"))
    say(toml(made, ()).strip() or "(nothing)")
    for name in sorted(doubled - set(made)):
        say(f"[{name}] is left out, because a script that stays as it is may do the same")


def _carry_out(
    arguments: argparse.Namespace,
    here: Paths,
    cut: Sequence[Change],
    made: dict[str, list[Table]],
) -> int:
    vm = arguments.vm
    home = f"{here.config}/{VM_FOLDERS}/{vm}"
    if not made and all(change.text == change.script.text for change in cut):
        raise HookError(
            f"nothing of {vm}'s scripts can be taken over as they are",
            "put the lines that no table does into a script of their own in the VM's folder, and "
            "try again",
        )
    text = _vm_toml(f"{home}/{VM_FILE}", made, vm)
    domain = one_domain(arguments, here.host()).domain
    _refuse_unfit(text, domain, here)
    for change in cut:
        if change.text is None:
            say(f"{clean(change.script.path)} is no longer needed: it goes to {FOLDER}")
        else:
            say(f"{clean(change.script.path)} would be:")
            for line in change.text.splitlines():
                say(clean(line.replace("\t", "    ")), 1)
    if not arguments.yes and not ask(f"migrate {vm} like this?"):
        say("nothing was changed")
        return 1
    carry_out(home, cut, text, f"{home}/{VM_FILE}")
    say(f"{vm} is migrated; see what it does: vfio-hooks plan {vm}")
    return 0


def _vm_toml(path: str, made: dict[str, list[Table]], vm: str) -> str:
    """The text of the file, with the tables that it does not have yet added at its end."""
    comments = (f"What vfio-hooks does for {vm}, instead of its scripts.",)
    if not os.path.exists(path):
        return toml(made, comments)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    missing = {name: table for name, table in made.items() if f"[{name}]" not in text}
    return f"{text.rstrip()}\n{toml(missing, ())}" if missing else text


def _refuse_unfit(text: str, domain: Domain, here: Paths) -> None:
    """Raise HookError for a vm.toml with which the VM would not start on this host."""
    with tempfile.TemporaryDirectory(prefix="vfio-hooks-") as folder:
        home = f"{folder}/{VM_FOLDERS}/{domain.name}"
        os.makedirs(home)
        if os.path.exists(f"{here.config}/{HOST_FILE}"):
            shutil.copy(f"{here.config}/{HOST_FILE}", folder)
        with open(f"{home}/{VM_FILE}", "w", encoding="utf-8") as file:
            file.write(text)
        config = load(folder, domain.name)
        assert config is not None
        events = [Event(domain.name, op) for op in PLANNED]
        events += [Event(domain.name, op, "end") for op in ENDING]
        failures = forecast(domain, config, replace(here, config=folder), events).outlooks[-1]
    for failure in failures.failures:
        raise HookError(
            f"with this vm.toml {domain.name} would not start: {failure.problem}", failure.hint
        )


def _as_json(script: Script) -> dict[str, object]:
    return {
        "path": script.path,
        "operation": script.op,
        "lines": [{**asdict(one), "options": dict(one.options)} for one in script.verdicts],
    }
