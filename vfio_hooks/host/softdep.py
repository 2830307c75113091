"""Soft dependencies: what modprobe loads before and after a module that is asked for.

modprobe.d(5), softdep; what counts was tried with kmod 34.2.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

from vfio_hooks.host import boot, modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vfio_hooks.host import Host

VFIO_FIRST = "pre: vfio-pci"
COUNTS = "modprobe takes only the first softdep of a module"


def first(host: Host, module: str) -> tuple[str, str] | None:
    """The one softdep of a module that counts, as its file and what follows the module's name:
    modprobe takes the first line alone, and what modules say of themselves is read first."""
    for path, words in (*own(host), *boot.modprobe(host)):
        if (said := of_line(words, module)) is not None:
            return path, said
    return None


def in_vain(host: Host, module: str) -> str:
    """Why a softdep in modprobe.d cannot put vfio-pci before a module; "" if it can."""
    if any(of_line(words, module) is not None for _, words in own(host)):
        return f"{COUNTS}, and {module} itself has one"
    path = next((path for path, words in boot.modprobe(host) if is_install(words, module)), "")
    if path:
        return f"A softdep of {module} would switch off the install line that loads it, in {path}"
    return ""


def by_initramfs(module: str, why: str) -> str:
    """How vfio-pci comes first where a softdep is in vain."""
    # initramfs-tools starts udev, which loads what it finds there, before it loads that list.
    return (
        f"have the initramfs load vfio-pci ahead of {module}: a line in "
        f"/etc/initramfs-tools/modules (too late if lsinitramfs shows {module}), MODULES= of "
        f"/etc/mkinitcpio.conf or force_drivers= of dracut{why and f'. {why}'}"
    )


def is_install(words: list[str], module: str) -> bool:
    """Whether a line is a command that modprobe runs in place of loading a module, as Debian's
    nvidia package has one."""
    return words[:1] == ["install"] and _names(words, module)


def own(host: Host) -> list[tuple[str, list[str]]]:
    """What modules say of themselves, as the file and the words of each line."""
    path = f"{modules.folder(host)}/modules.softdep"
    return [(path, words) for words in boot.lines(host.maybe(path) or "")]


def first_of(lines: Iterable[str], module: str) -> str:
    """The first softdep of a module among lines of modprobe's files; "" for none."""
    return next((line for line in lines if of_line(line.split(), module) is not None), "")


def install_of(lines: Iterable[str], module: str) -> str:
    """The install line of a module among lines of modprobe's files; "" for none."""
    return next((line for line in lines if is_install(line.split(), module)), "")


def of_line(words: Sequence[str], module: str) -> str | None:
    """What a line says of a module, such as "pre: vfio-pci"; None where it is not about it."""
    if len(words) < 3 or words[0] != "softdep" or not _names(words, module):
        return None
    return " ".join(words[2:])


def is_vfio_first(said: str) -> bool:
    """Whether a softdep has vfio-pci loaded before its module."""
    kind = ""
    for word in said.replace("_", "-").split():
        if word in ("pre:", "post:"):
            kind = word
        elif (kind, word) == ("pre:", "vfio-pci"):
            return True
    return False


def _names(words: Sequence[str], module: str) -> bool:
    """Whether a line of at least one word is about a module, which may match a pattern in it."""
    pattern = "".join(words[1:2]).replace("-", "_")
    return fnmatchcase(module.replace("-", "_"), pattern)


def with_vfio_first(said: str) -> str:
    """A softdep that does as `said` and has vfio-pci loaded first."""
    return f"{VFIO_FIRST} {said.removeprefix('pre: ')}"
