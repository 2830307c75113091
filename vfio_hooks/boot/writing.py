"""Writing the files of the boot, and taking them back.

A file that somebody has edited since is left as it is, and named.
"""

from collections.abc import Sequence

from vfio_hooks.boot import Edit, Wanted, Work, text_of
from vfio_hooks.boot.journal import Applied, applied, keep, note, put
from vfio_hooks.boot.planning import tools
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.quoting import joined
from vfio_hooks.record import replace

_SECONDS = 600
"""In seconds. An initramfs takes minutes on a slow disk."""


def steps(host: Host, had: Applied, work: Work) -> tuple[Edit, ...]:
    """The edits that lead from the files of now to those of `work`, which starts from the files
    before `had`. Raises HookError for a file that somebody has edited since."""
    written = _by_path(had.work.edits)
    # One that was cut off before a file was written has left it as it was.
    left = {(edit.path, edit.before) for edit in had.work.edits if not had.whole}
    target = {edit.path: edit for edit in work.edits}
    found = []
    for path in {**written, **target}:
        now = text_of(host, path)
        expected = written[path].after if path in written else target[path].before
        if now != expected and path not in written:
            raise HookError(f"{path} was changed in the meantime", "try again")
        if now != expected and (path, now) not in left:
            hint = "vfio-hooks boot revert leaves it as it is; then apply again for each VM"
            raise HookError(f"{path} was edited since vfio-hooks boot apply wrote it", hint)
        edit = target.get(path) or replace(written[path], after=written[path].before)
        if now != edit.after:
            found.append(replace(edit, before=now))
    return tuple(found)


def apply(host: WritableHost, wanted: tuple[Wanted, ...], work: Work) -> None:
    """Write the files, in addition to what is written already or in its place, and run the loader's
    tools. If a tool fails, the files are put back. Raises HookError."""
    had = applied(host)
    edits = steps(host, had, work)
    # Until everything is written, both the old and the new edits can be taken back.
    both = replace(work, edits=(*had.work.edits, *edits))
    keep(host, Applied(wanted, both, whole=False))
    try:
        for edit in edits:
            put(host, edit.path, edit.after, edit.mode)
        _run(host, tools(host, both) if edits or not had.whole else ())
    except HookError as error:
        _put_back(host, edits)
        # The files are what counts: a full disk may fail the tools again.
        keep(host, had)
        hint = error.hint or "everything is as it was before"
        raise HookError(error.problem, _again(host, tools(host, both)) or hint) from None
    note(host, set(had.work.parameters) - set(work.parameters))
    keep(host, Applied(wanted, replace(work, edits=_merged(both.edits))))


def revert(host: WritableHost) -> list[str]:
    """Put all files back and run the tools. Returns the files that somebody has edited since, which
    stay as they are. Raises HookError."""
    had = applied(host)
    if not had.wanted:
        raise HookError("nothing is written: vfio-hooks boot apply has not been used")
    edited = _put_back(host, had.work.edits)
    _run(host, tools(host, had.work))
    note(host, set(had.work.parameters))
    keep(host, Applied())
    return edited


def _merged(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """One edit for each file that differs from its first text."""
    return tuple(edit for edit in _by_path(edits).values() if edit.before != edit.after)


def _by_path(edits: Sequence[Edit]) -> dict[str, Edit]:
    """One edit for each file, from its first text to its last one."""
    found: dict[str, Edit] = {}
    for edit in edits:
        found[edit.path] = replace(edit, before=found.get(edit.path, edit).before)
    return found


def _put_back(host: WritableHost, edits: Sequence[Edit]) -> list[str]:
    """Put the files back as they were before these edits. Returns those that have neither the old
    nor the new text, and are left alone."""
    edited = []
    for edit in reversed(edits):
        now = text_of(host, edit.path)
        if now == edit.after:
            put(host, edit.path, edit.before, edit.mode)
        elif now != edit.before and edit.path not in edited:
            edited.append(edit.path)
    return edited


def _again(host: WritableHost, commands: tuple[tuple[str, ...], ...]) -> str:
    """Run the tools again for files that were put back. Returns what to do if that fails, or ""."""
    try:
        _run(host, commands)
    except HookError as error:
        line = " && ".join(map(joined, commands))
        return f"the files are as they were before, but {error}: fix that, then run {line}"
    return ""


def _run(host: WritableHost, commands: tuple[tuple[str, ...], ...]) -> None:
    for command in commands:
        host.run(list(command), _SECONDS)
