"""Soft dependencies: what modprobe loads before and after a module that is asked for.

modprobe.d(5), softdep; what counts was tried with kmod 34.2.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from vfio_hooks.host import boot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vfio_hooks.host import Host

VFIO_FIRST = "pre: vfio-pci"


def first(host: Host, module: str) -> tuple[str, str] | None:
    """The one softdep of a module that counts, as its file and what follows the module's name:
    modprobe takes the first line alone, and what modules say of themselves is read first."""
    release = host.maybe("/proc/sys/kernel/osrelease")
    own = f"/lib/modules/{release}/modules.softdep"
    lines = [(own, words) for words in boot.lines(host.maybe(own) or "")]
    for path, words in (*lines, *boot.modprobe(host)):
        if (said := of_line(words, module)) is not None:
            return path, said
    return None


def first_of(lines: Iterable[str], module: str) -> str:
    """The first softdep of a module among lines of modprobe's files; "" for none."""
    return next((line for line in lines if of_line(line.split(), module) is not None), "")


def of_line(words: Sequence[str], module: str) -> str | None:
    """What a line says of a module, such as "pre: vfio-pci"; None where it is not about it."""
    name = module.replace("-", "_")
    if len(words) < 3 or words[0] != "softdep":
        return None
    return " ".join(words[2:]) if fnmatchcase(name, words[1].replace("-", "_")) else None


def is_vfio_first(said: str) -> bool:
    """Whether a softdep has vfio-pci loaded before its module."""
    before = said.partition("post:")[0]
    return before.startswith("pre:") and "vfio-pci" in before.replace("_", "-").split()


def with_vfio_first(said: str) -> str:
    """A softdep that does as `said` and has vfio-pci loaded first."""
    return f"{VFIO_FIRST} {said.removeprefix('pre: ')}"
