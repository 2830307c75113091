"""For people with scripts: what a VM's executables do, line by line, and the tables that do the
same.

Nothing is run. A script is read as far as it is understood. What is not understood is reported, and
then no table is proposed that might do again what the script still does.
"""

import os
from contextlib import suppress

from vfio_hooks import KEPT_HOOK, VM_FOLDERS
from vfio_hooks.event import OPERATIONS
from vfio_hooks.hook.scripts import executables
from vfio_hooks.migrate.verdict import GUESS, POWER_PROFILE, UNDONE, VALUES, Verdict
from vfio_hooks.migrate.verdicts import verdicts
from vfio_hooks.record import record, replace
from vfio_hooks.shell.actions import follow
from vfio_hooks.shell.run import Run

_LARGEST = 1 << 20
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh")


@record
class Script:
    """An executable of a VM, the libvirt operation at which it is run ("" for all), and what
    becomes of its lines and of those in the files that it calls. The only one that is not run is
    the hook that install.sh has replaced: its owner may have added lines to it."""

    path: str
    op: str
    text: str
    verdicts: tuple[Verdict, ...]
    is_run: bool = True

    @property
    def is_read(self) -> bool:
        """Whether all of it is understood."""
        return not any(one.kind == "unread" for one in self.verdicts)

    @property
    def keeps(self) -> bool:
        """Whether it has something to do that no table does."""
        return any(one.kind in ("keep", "unread") for one in self.verdicts)


def scripts(hooks: str, vm: str, root: str = "/") -> list[Script]:
    """The scripts that libvirt or vfio-hooks runs for a VM: the executables in its folder, those in
    qemu.d itself, and a hook that is kept; and also a hook that was replaced. Raises OSError if one
    cannot be read."""
    home = f"{hooks}/{VM_FOLDERS}/{vm}"
    for folder in (hooks, f"{hooks}/{VM_FOLDERS}", home):
        # Fedora's /etc/libvirt is closed to users: then no script is seen, but there may be some.
        with suppress(FileNotFoundError, NotADirectoryError):
            os.listdir(folder)
    places = [(f"{home}/{op}/{subop}", op) for op, subop in OPERATIONS.items()]
    places += [(f"{hooks}/{KEPT_HOOK}", ""), (f"{hooks}/{VM_FOLDERS}", "")]
    found = [_script(path, op, vm, root) for place, op in places for path in executables(place)]
    replaced = [
        replace(_script(path, "", vm, root), is_run=False)
        for path in executables(f"{hooks}/qemu.replaced")
    ]
    return _with_counterparts(found + replaced)


def _with_counterparts(found: list[Script]) -> list[Script]:
    """The scripts, with lines kept that a table would not replace: a table undoes at the end only
    what it did before, so a line at the end needs a counterpart."""
    every = [one for script in found for one in script.verdicts]
    known = {thing for one in every if one.kind == "table" for thing in one.things}
    kept = {thing for one in every if one.kept_from for thing in one.things} - known

    def with_counterpart(one: Verdict) -> Verdict:
        if one.why not in (UNDONE, GUESS) or not one.things:
            return one
        is_value = one.table in VALUES and (one.table, POWER_PROFILE) not in one.things
        if not one.things & kept and (is_value or one.things & known):
            return one
        return replace(one, kind="keep", why="nothing before it is undone by this", table="")

    return [
        replace(script, verdicts=tuple(map(with_counterpart, script.verdicts)))
        if script.is_read
        else script
        for script in found
    ]


def doing(hooks: str, vm: str, root: str = "/") -> dict[str, str]:
    """What a VM's scripts do that tables also do: the lines, "start.sh:12", by the table's name.
    Scripts that cannot be read are left out; `check` reports them."""
    found: dict[str, list[str]] = {}
    with suppress(OSError):
        for script in scripts(hooks, vm, root):
            for one in script.verdicts:
                if one.kind == "table" and script.is_run:
                    places = found.setdefault(one.table, [])
                    places.append(f"{os.path.basename(one.file)}:{one.line}")
    return {table: ", ".join(dict.fromkeys(places)) for table, places in found.items()}


def _script(path: str, op: str, vm: str, root: str) -> Script:
    text = _text(path)
    if text is None or not _is_shell(text):
        why = "it is not a shell script"
        return Script(path, op, text or "", (Verdict(path, 1, "", "unread", why),))

    def read(name: str) -> str | None:
        # Relative names work as well: libvirt runs its hooks in /.
        beside = name.startswith(f"{os.path.dirname(path)}/")
        found = _text(name if beside else os.path.join(root, name.lstrip("/")))
        return found if found is not None and _is_shell(found) else None

    found: list[Verdict] = []
    for each in [op] if op else OPERATIONS:
        run = Run(read)
        follow(run, path, text, [vm, each, OPERATIONS[each], "-"])
        found += verdicts(run, each)
    ordered = sorted(dict.fromkeys(found), key=lambda one: (one.file != path, one.file, one.line))
    return Script(path, op, text, tuple(ordered) if not op else tuple(found))


def _text(path: str) -> str | None:
    """A file's text; None if there is none, or it is a program."""
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
    return None if b"\0" in data or len(data) > _LARGEST else data.decode(errors="replace")


def _is_shell(text: str) -> bool:
    """Whether it is a shell script. A script without a #! line was always run by a shell."""
    first = text.split("\n", 1)[0]
    if not first.startswith("#!"):
        return True
    words = first[2:].split()
    names = [word.rpartition("/")[2] for word in words[:3] if not word.startswith("-")]
    return bool(set(names[:2]) & set(_SHELLS))
