"""The programs of many desktops, laid over a guest's own: its image has only few of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.desktop import tree
from tests.vm import cache, qmp, tools
from tests.vm.guest import Guest
from tests.vm.process import progress, run

_NAME = "desktops"
_BELOW = f"/run/{_NAME}"
_NODE = f"/dev/disk/by-id/usb-QEMU_QEMU_HARDDISK_{_NAME}-0:0"


@contextmanager
def laid_over(guest: Guest) -> Iterator[None]:
    """/usr has the programs of tests/desktop as well until the block ends; it is read-only then."""
    _plug_in(guest)
    guest.run(f"mount -t overlay -o lowerdir=/usr:{_BELOW}/usr desktops /usr")
    try:
        yield
    finally:
        # Programs that were started meanwhile, and go on, keep what they have open of the guest's
        # own files.
        guest.run(f"umount --lazy /usr {_BELOW}")
        qmp.ask(guest.machine.folder, "device_del", id=_NAME)
        guest.wait(f"test ! -e {_NODE}")
        qmp.ask(guest.machine.folder, "blockdev-del", **{"node-name": _NAME})


def _plug_in(guest: Guest) -> None:
    file = {"driver": "file", "filename": str(_provide(guest.release)), "read-only": True}
    disk = {"driver": "raw", "node-name": _NAME, "read-only": True, "file": file}
    qmp.ask(guest.machine.folder, "blockdev-add", **disk)
    device = {"driver": "usb-storage", "bus": "usb.0", "drive": _NAME, "serial": _NAME, "id": _NAME}
    qmp.ask(guest.machine.folder, "device_add", **device)
    guest.wait(f"test -b {_NODE}")
    guest.run(f"mkdir -p {_BELOW} && mount -o ro {_NODE} {_BELOW}")


def _provide(suite: str) -> Path:
    """The disk of a release, made now when the cache does not have it."""
    folder = tree.provide(suite)
    entry = cache.root() / f"desktop-disk-{suite}-{cache.key([folder.name])}"
    with cache.locked(f"desktop-disk-{suite}"):
        if not entry.exists():
            tools.ensure("mkfs.ext4")
            with cache.new_entry(f"desktop-disk-{suite}", entry) as work:
                _write(suite, folder, work / "disk.img")
    return entry / "disk.img"


def _write(suite: str, folder: Path, disk: Path) -> None:
    words = [tools.program("mkfs.ext4"), "-q", "-F", "-m", "0", "-O", "^has_journal"]
    with progress(f"{suite}: writing the disk with the desktops' programs", 20):
        run([*words, "-d", str(folder), str(disk), "3G"], "write a disk", timeout=600)
