"""What was written for the boot, in /var/lib, until it is taken back: also after a reboot.

The journal is on disk before the first file is changed. A file that somebody has edited since is
left as it is, and named.
"""

import json
import os
from stat import S_IMODE

from vfio_hooks.boot import Edit, Work, text_of
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import WritableHost
from vfio_hooks.record import asdict

FILE = "/var/lib/vfio-hooks/boot.json"
REVERTED = "/run/vfio-hooks-boot.reverted"
"""The kernel parameters, a line each, that this boot still has from what `revert` took back."""
_VERSION = 1
_SECONDS = 600
"""An initramfs takes minutes on a slow disk."""


def is_applied(host: WritableHost) -> bool:
    return host.exists(FILE)


def apply(host: WritableHost, work: Work) -> None:
    """Write the files, and have the loader's tools look at them. Raises HookError, and has put
    back what it wrote where a tool fails."""
    if is_applied(host):
        raise HookError(f"{FILE}: the boot is changed already", "vfio-hooks boot revert")
    for edit in work.edits:
        if text_of(host, edit.path) != edit.before:
            raise HookError(f"{edit.path} was changed meanwhile", "try again")
    _put(host, FILE, json.dumps({"version": _VERSION, **asdict(work)}, indent=1), 0o600)
    try:
        for edit in work.edits:
            _put(host, edit.path, edit.after, edit.mode)
        _run(host, work.commands)
    except HookError as error:
        revert(host)
        raise HookError(error.problem, error.hint or "everything is as it was before") from None


def revert(host: WritableHost) -> list[str]:
    """Put back the files as they were, and run the same tools; returns those that somebody has
    edited since, which stay. Raises HookError."""
    work = _read(host)
    edited = []
    for edit in reversed(work.edits):
        now = text_of(host, edit.path)
        if now == edit.after:
            _put(host, edit.path, edit.before, edit.mode)
        elif now != edit.before:
            edited.append(edit.path)
    _run(host, work.commands)
    running = (host.maybe("/proc/cmdline") or "").split()
    if taken := [word for word in work.parameters if word in running]:
        _put(host, REVERTED, "\n".join(taken) + "\n")
    _put(host, FILE, None)
    return edited


def _read(host: WritableHost) -> Work:
    text = text_of(host, FILE)
    if text is None:
        raise HookError("nothing is changed for the boot: vfio-hooks boot apply has not been used")
    try:
        found = json.loads(text)
        if found["version"] != _VERSION:
            raise HookError(f"{FILE} is of another version of vfio-hooks", "use that version")
        return Work(
            found["loader"],
            tuple(Edit(**edit) for edit in found["edits"]),
            tuple(tuple(command) for command in found["commands"]),
            parameters=tuple(found["parameters"]),
        )
    except (ValueError, KeyError, TypeError):
        hint = "put its files back by hand, then remove it"
        raise HookError(f"{FILE} is damaged", hint) from None


def _run(host: WritableHost, commands: tuple[tuple[str, ...], ...]) -> None:
    for command in commands:
        host.run(list(command), _SECONDS)


def _put(host: WritableHost, path: str, text: str | None, mode: int = 0o644) -> None:
    """Write a file, on disk before the next one, or remove it. What was there keeps its mode."""
    name = host.path(path)
    try:
        if text is not None:
            host.keep(path, text, S_IMODE(os.stat(name).st_mode) if os.path.exists(name) else mode)
        elif os.path.lexists(name):
            os.unlink(name)
    except OSError as error:
        raise HookError(f"{path}: cannot be written: {reason(error)}") from None
