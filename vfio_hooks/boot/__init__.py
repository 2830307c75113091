"""What a host needs from its boot on, written into its loader's files, and taken back.

Everything else that vfio-hooks changes is gone with a reboot. These are files, so they have a
journal of their own, in /var/lib (see journal.py).
"""

from vfio_hooks.host import Host
from vfio_hooks.record import record


@record
class Edit:
    """A file as it is to be: its path on the host, its text now (None: there is none) and its
    text then (None: it goes)."""

    path: str
    before: str | None
    after: str | None
    mode: int = 0o644


@record
class Work:
    """What one loader takes: edits, the commands that have it look at them, what a user has to do
    where we do not write (exact commands or edits), and the kernel parameters that all this is for.
    """

    loader: str
    edits: tuple[Edit, ...] = ()
    commands: tuple[tuple[str, ...], ...] = ()
    told: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


def text_of(host: Host, path: str) -> str | None:
    """A file's text to the byte; None where there is none."""
    try:
        with open(host.path(path), encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
