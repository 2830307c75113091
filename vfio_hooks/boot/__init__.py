"""What a host needs at boot, written into its boot loader's files, and taken back.

Everything else that vfio-hooks changes is gone after a reboot. These are files, so they have a
journal of their own, in /var/lib (see journal.py).
"""

from collections.abc import Sequence

from vfio_hooks.host import Host
from vfio_hooks.record import record

MODPROBE = "/etc/modprobe.d/vfio-hooks-boot.conf"


@record
class Need:
    """Words of the kernel's command line, or a line of modprobe.d, and why.

    `instead`: what the user's own files, or the module itself, have in its place. Only one of the
    two counts, so ours is not added.
    """

    text: str
    why: str
    is_modprobe: bool = False
    instead: str = ""


@record
class Wanted:
    """What is needed for one VM, or with the name "" for the host, whatever VM it runs. `devices`
    are the addresses of the domain's PCI functions: two VMs that share one never run together."""

    vm: str
    needs: tuple[Need, ...]
    devices: tuple[str, ...] = ()


@record
class Edit:
    """The change of a file: its path on the host, its text before (None if it does not exist) and
    its text after (None if it is removed)."""

    path: str
    before: str | None
    after: str | None
    mode: int = 0o644


@record
class Work:
    """What one loader takes: edits, what a user has to do where we do not write (exact commands or
    edits), and to take that back, and the kernel parameters that all this is for."""

    loader: str
    edits: tuple[Edit, ...] = ()
    told: tuple[str, ...] = ()
    told_back: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()


class Before(Host):
    """A host whose files are as they were before these edits, the oldest of them first."""

    def __init__(self, host: Host, edits: Sequence[Edit]) -> None:
        super().__init__(host.root or "/")
        # A journal that was cut off may have two edits of a file: the first one counts.
        self.texts = {edit.path: edit.before for edit in reversed(edits)}


def text_of(host: Host, path: str) -> str | None:
    """A file's text, byte for byte; None if there is no file."""
    if isinstance(host, Before) and path in host.texts:
        return host.texts[path]
    try:
        with open(host.path(path), encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
