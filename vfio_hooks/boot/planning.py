"""What has to be done on this host for its needs: files of the boot loader and of modprobe, and the
initramfs."""

import re
from collections.abc import Sequence

from vfio_hooks.boot import MODPROBE, Edit, Need, Work, text_of
from vfio_hooks.boot.initramfs import rebuild
from vfio_hooks.boot.joining import ON_COMMAND_LINE, beside, pages, soft
from vfio_hooks.boot.loaders import LOADERS
from vfio_hooks.errors import HookError
from vfio_hooks.host import Host, softdep
from vfio_hooks.host.memory import amount, totals

_GIB = 1 << 20
_LEFT = 2 * _GIB
"""The memory that a host needs to start at all, in KiB."""


def planned(host: Host, needs: Sequence[Need]) -> Work:
    """The files of the loader and of modprobe, with the initramfs made before the loader looks.

    Raises HookError for an unknown loader, and for more pages than the host can start with.
    """
    _check_memory(host, needs)
    ours = [need for need in needs if not need.instead]
    words = [word for need in ours if not need.is_modprobe for word in need.text.split()]
    lines = [need.text for need in ours if need.is_modprobe]
    work = _loaded(host, words)
    edits, told, back = work.edits, work.told, work.told_back
    if lines:
        head = "# By vfio-hooks boot; vfio-hooks boot revert takes it away."
        text = "\n".join((head, *lines)) + "\n"
        said = rebuild(host)
        edits += (Edit(MODPROBE, text_of(host, MODPROBE), text),)
        told, back = (*told, *said.told), (*back, *said.told_back)
    told += tuple(_by_hand(host, need) for need in needs if need.instead)
    if any(_in_vain(host, need) for need in needs if need.instead):
        back = ("take vfio-pci out of the list of modules that the initramfs loads", *back)
    return Work(work.loader, edits, told, back, tuple(words))


def tools(host: Host, work: Work) -> tuple[tuple[str, ...], ...]:
    """The commands that bring these edits into effect, for the kernels that are installed now. The
    initramfs comes first, because an entry of the loader may contain a copy of it."""
    has_modprobe = any(edit.path == MODPROBE for edit in work.edits)
    command = rebuild(host).commands if has_modprobe else ()
    is_told = len(work.edits) == has_modprobe
    loaders = [one for one in LOADERS if one.name == work.loader and one.is_used(host)]
    return (*command, *(() if is_told or not loaders else loaders[0].tools(host)))


def _loaded(host: Host, words: Sequence[str]) -> Work:
    loader = next((one for one in LOADERS if one.is_used(host)), None)
    if loader is None and words:
        raise HookError(
            "the boot loader is not one that vfio-hooks knows",
            f"give the kernel these parameters yourself: {' '.join(words)}",
        )
    return loader.work(host, words) if loader and words else Work(loader.name if loader else "")


def _by_hand(host: Host, need: Need) -> str:
    if why := _in_vain(host, need):
        return softdep.by_initramfs(soft(need.text), why)
    is_option = need.is_modprobe and not re.match(ON_COMMAND_LINE, need.instead)
    place = "modprobe.d" if is_option else "the kernel's command line"
    text = beside(need.text, need.instead)
    return f"in {place}, replace {need.instead} with {text}: only one of the two counts"


def _in_vain(host: Host, need: Need) -> str:
    module = soft(need.text)
    return softdep.in_vain(host, module) if module else ""


def _check_memory(host: Host, needs: Sequence[Need]) -> None:
    """Raise HookError for so many huge pages that the host would not boot any more."""
    total = totals(host).get("MemTotal")
    for need in needs:
        count = pages(need.text) or 0
        if total is not None and count * _GIB > total - _LEFT:
            raise HookError(
                f"{count} pages of 1 GiB are too many for a host with {amount(total)}, which would "
                f"not start any more: {need.why}",
                "give the VM less memory, or pages of 2 MiB, which [hugepages] gets at its start",
            )
