"""Guests that were put aside while they ran: to go on from there takes seconds, a boot a minute.

One has booted, another has this checkout's vfio-hooks installed as well. Each is made when it is
first needed, and anew when QEMU, its command line, the image or the package have changed.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm import build, cache, cpufreq, emulator, machine, qmp, tools, versions
from tests.vm.guest import CALM, INSTALLING, Guest
from tests.vm.hardware import Hardware, Media, arguments
from tests.vm.image import Image, Saved
from tests.vm.machine import CHECKOUT, Machine, Stalled
from tests.vm.process import VmError, poll, progress, run
from tests.vm.release import Release

# Raise it when the code that makes a saved guest changes what is in it.
SAVED_VERSION = "2"
BOOTS = 3
"""How often a boot that stalls is tried."""
INSTALLED = ("install.sh", "hooks/qemu", "packaging/installer", "vfio_hooks")
"""What of the checkout an installed guest has."""
BEFORE = "umount /src && udevadm settle --timeout=60 && sync"
AFTER = "date --set=@{now:.3f} > /dev/null && mount /src"
"""A guest whose share is in use cannot be saved; and it wakes up with an old clock."""


def provide(suite: str, *, installed: bool = True) -> Saved:
    """The saved guest of a release, made now when the cache does not have it."""
    image = build.image(suite)
    with cache.locked(f"saved-{suite}"):
        return (_installed if installed else _booted)(image)


def resume(
    suite: str,
    name: str,
    *,
    installed: bool = True,
    die_with_me: bool = True,
    disk: Path | None = None,
) -> Machine:
    """The saved guest of a release, going on under this name, with all its devices. What it writes
    is kept on a new `disk`, or else nowhere."""
    image = build.image(suite)
    find = _installed if installed else _booted

    def wake() -> Machine:
        found = find(image)
        if disk is not None:
            _copy(found, image, disk)
        return _complete(_wake(image, found, name, die_with_me=die_with_me, disk=disk))

    # Held until QEMU has opened its files: another checkout's guest would replace them.
    with cache.locked(f"saved-{suite}"):
        try:
            return wake()
        except VmError as error:
            print(f"{suite}: making the saved guest anew: {error}", file=sys.stderr, flush=True)
        for kind in ("booted", "installed"):
            for entry in cache.root().glob(f"{kind}-{suite}-*"):
                shutil.rmtree(entry)
        return wake()


def _copy(found: Saved, image: Image, disk: Path) -> None:
    """A saved guest's disk as one that lasts: it needs nothing but the image."""
    tools.ensure("qemu-img")
    words = [tools.program("qemu-img"), "convert", "-q", "-O", "qcow2", "-F", "raw"]
    words += ["-B", str(image.disk), str(found.disk), str(disk)]
    run(words, "copy the disk of a saved guest", timeout=300)


def _booted(image: Image) -> Saved:
    """One that has just booted, and whose interrupts hold still."""
    qemu = run([*emulator.provide().qemu, "-version"], "ask QEMU for its version", timeout=30)
    shape = Hardware()
    nothing = Path("/")
    # No paths, so that a cache may be moved.
    media = Media(nothing, nothing, nothing, (nothing, nothing), nothing, nothing)
    words = arguments(shape, media, Release(image.suite), port=0)
    # The image's time, because one that is built anew has its old name.
    parts = [image.folder.name, str(image.disk.stat().st_mtime_ns)]
    parts += [SAVED_VERSION, qemu, *words, cpufreq.source(shape.topology.cpus), CALM]
    saved = _entry("booted", image, parts)
    for remaining in reversed(range(BOOTS)):
        try:
            if not saved.folder.exists():
                _boot(image, saved)
        except Stalled:
            if not remaining:
                raise
    return saved


def _boot(image: Image, saved: Saved) -> None:
    with _making("booting", saved, image, image.disk) as (work, name):
        running = machine.start(image, name, keep_writes=True, disk=work.disk)
        with _ended(running):
            running.wait_ready()
            guest = Guest(running)
            guest.calm()
            work.versions.write_text(guest.run(versions.COMMAND).stdout, encoding="utf-8")
            _save(running, work.memory)


def _installed(image: Image) -> Saved:
    """The booted one, with this checkout's vfio-hooks."""
    booted = _booted(image)
    made = str(booted.memory.stat().st_mtime_ns)
    saved = _entry("installed", image, [booted.folder.name, made, fingerprint(), INSTALLING])
    if not saved.folder.exists():
        with (
            _making("installing vfio-hooks", saved, image, booted.disk) as (work, name),
            _ended(_wake(image, booted, name, disk=work.disk)) as running,
        ):
            Guest(running).install()
            _save(running, work.memory)
    return saved


def _entry(kind: str, image: Image, parts: list[str]) -> Saved:
    return Saved(cache.root() / f"{kind}-{image.suite}-{cache.key(parts)}")


def fingerprint() -> str:
    """Of all that is installed out of this checkout."""
    digest = hashlib.sha256()
    for top in map(CHECKOUT.joinpath, INSTALLED):
        for path in sorted(top.rglob("*.py")) or [top]:
            digest.update(f"{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


@contextmanager
def _making(what: str, saved: Saved, image: Image, below: Path) -> Iterator[tuple[Saved, str]]:
    """A folder to save a guest in, with a disk on top of another; and a name for its machine."""
    kind, _, key = saved.folder.name.rpartition("-")
    name = f"save-{image.suite}-{key}"
    stale = machine.find(name)
    if stale is not None:
        stale.stop()
    tools.ensure("qemu-img")
    with progress(f"{image.suite}: {what}, once", 60), cache.new_entry(kind, saved.folder) as work:
        made = Saved(work)
        # Named from here, so that a cache may be moved.
        backing = Path("..") / below.relative_to(cache.root())
        form = ("-F", "qcow2" if below.suffix == ".qcow2" else "raw")
        words = [tools.program("qemu-img"), "create", "-q", "-f", "qcow2", *form, "-b"]
        run([*words, str(backing), str(made.disk)], "make a disk for a saved guest", timeout=60)
        yield made, name


@contextmanager
def _ended(running: Machine) -> Iterator[Machine]:
    try:
        yield running
    finally:
        running.stop()


def _save(running: Machine, memory: Path) -> None:
    """Write the guest's memory to a file; it stands still from then on."""
    _run(running, BEFORE)
    running.ssh.close()
    qmp.ask(running.folder, "migrate", uri=f"file:{memory}")
    poll(lambda: _status(running) == "postmigrate", f"saving {running.suite}", deadline=180)


def _wake(
    image: Image, saved: Saved, name: str, *, disk: Path | None = None, die_with_me: bool = True
) -> Machine:
    """Let a saved guest go on: with writes that are kept on a `disk`, else on its own."""
    running = machine.start(
        image,
        name,
        keep_writes=disk is not None,
        die_with_me=die_with_me,
        disk=disk or saved.disk,
        memory=saved.memory,
    )
    with _ended_on_error(running):
        poll(
            lambda: not running.alive() or _status(running) == "running",
            f"{name}: the saved guest goes on: this",
            deadline=180,
        )
        if not running.alive():
            raise VmError(f"{name}: QEMU cannot go on from {saved.folder}: {running.why_dead()}")
        _run(running, AFTER.format(now=time.time()))
    return running


def _complete(running: Machine) -> Machine:
    with _ended_on_error(running):
        running.plug_in()
    return running


@contextmanager
def _ended_on_error(running: Machine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        running.stop()
        raise


def _run(running: Machine, line: str) -> None:
    done = running.ssh.run(line, timeout=180)
    if done.returncode != 0:
        told = done.stderr.strip()
        raise VmError(f"{running.name}: exit {done.returncode} from {line!r}: {told}")


def _status(running: Machine) -> str:
    """What QEMU says of the guest; nothing while it does not listen."""
    try:
        return str(qmp.ask(running.folder, "query-status")["status"])
    except VmError:
        return ""
