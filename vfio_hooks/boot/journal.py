"""The journal of what was written for the boot, in /var/lib until it is taken back, even after a
reboot. It is on disk before the first file is changed.
"""

import json
import os
from stat import S_IMODE
from typing import Any

from vfio_hooks.boot import Edit, Need, Wanted, Work, text_of
from vfio_hooks.errors import HookError, reason
from vfio_hooks.host import Host, WritableHost
from vfio_hooks.record import asdict, record

FILE = "/var/lib/vfio-hooks/boot.json"
REVERTED = "/run/vfio-hooks-boot.reverted"
"""The kernel parameters, a line each, that `revert` took back but that this boot still has."""
_VERSION = 2


@record
class Applied:
    """What is written, and for which VMs. Each file's `before` is its first text. As long as it is
    not `whole`, the work is going on or was cut off: files may not be written yet, or the loader's
    tools may not have run."""

    wanted: tuple[Wanted, ...] = ()
    work: Work = Work("")
    whole: bool = True


def applied(host: Host) -> Applied:
    """What is written now; nothing without a journal. Raises HookError for a damaged one."""
    text = text_of(host, FILE)
    if text is None:
        return Applied()
    try:
        found = json.loads(text)
        if found["version"] != _VERSION:
            raise HookError(f"{FILE} is from another version of vfio-hooks", "use that version")
        work, whole = _work(found["work"]), bool(found.get("whole", True))
        return Applied(tuple(map(_wanted, found["wanted"])), work, whole)
    except (ValueError, KeyError, TypeError):
        hint = "put its files back by hand, then remove it"
        raise HookError(f"{FILE} is damaged", hint) from None


def ours(host: Host) -> list[str]:
    """The kernel parameters that come from `boot apply`: those that are written now, and those that
    were taken back but that this boot still has."""
    return [*applied(host).work.parameters, *host.lines(REVERTED)]


def own_line(host: Host) -> str:
    """The kernel's command line without these, and without the boot loader's own words."""
    mine = ours(host)
    words = (host.maybe("/proc/cmdline") or "").split()
    return " ".join(
        word
        for word in words
        if word not in mine and not word.startswith(("BOOT_IMAGE=", "initrd="))
    )


def keep(host: WritableHost, state: Applied) -> None:
    """Write this to the journal. If nothing is written for anybody, the journal is removed."""
    text = json.dumps({"version": _VERSION, **asdict(state)}, indent=1)
    put(host, FILE, text if state.wanted else None, 0o600)


def note(host: WritableHost, taken: set[str]) -> None:
    """Remember the parameters that this boot has and the next one will not have."""
    running = (host.maybe("/proc/cmdline") or "").split()
    known = host.lines(REVERTED)
    if new := [word for word in running if word in taken and word not in known]:
        put(host, REVERTED, "\n".join([*known, *new]) + "\n")


def put(host: WritableHost, path: str, text: str | None, mode: int = 0o644) -> None:
    """Write a file, and wait until it is on disk, or remove it. A file that exists keeps its
    mode."""
    name = host.path(path)
    try:
        if text is not None:
            host.keep(path, text, S_IMODE(os.stat(name).st_mode) if os.path.exists(name) else mode)
        elif os.path.lexists(name):
            os.unlink(name)
    except OSError as error:
        raise HookError(f"{path}: cannot be written: {reason(error)}") from None


def _wanted(found: dict[str, Any]) -> Wanted:
    needs = tuple(Need(**need) for need in found["needs"])
    return Wanted(str(found["vm"]), needs, tuple(map(str, found["devices"])))


def _work(found: dict[str, Any]) -> Work:
    texts = (tuple(map(str, found[name])) for name in ("told", "told_back", "parameters"))
    return Work(str(found["loader"]), tuple(Edit(**one) for one in found["edits"]), *texts)
