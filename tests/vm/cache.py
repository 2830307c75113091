"""Where built things lie, and how two builders keep out of each other's way."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.process import VmError


def root() -> Path:
    """The cache folder: $VFIO_HOOKS_CACHE, else vfio-hooks in the user's cache folder."""
    own = os.environ.get("VFIO_HOOKS_CACHE")
    if own:
        path = Path(own)
    else:
        base = os.environ.get("XDG_CACHE_HOME")
        path = (Path(base) if base else Path.home() / ".cache") / "vfio-hooks"
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VmError(
            f"cannot use the cache {path}: {error.strerror}; make it a folder that you may "
            "write to, or name another in VFIO_HOOKS_CACHE"
        ) from error
    return path


def key(parts: Iterable[str]) -> str:
    """A short name for everything that went into a built thing."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:12]


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the lock `name` of the cache; the kernel lets go of it when the holder dies."""
    with (root() / f"{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextmanager
def new_entry(kind: str, entry: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `entry` when all went well and vanishes otherwise.

    Call it with the lock of `kind` held: what an earlier, killed builder left half done
    is then nobody's and is removed, and so are the entries that `entry` replaces.
    """
    for stale in root().glob(f"tmp.{kind}.*"):
        shutil.rmtree(stale)
    work = Path(tempfile.mkdtemp(prefix=f"tmp.{kind}.", dir=root()))
    try:
        yield work
        work.rename(entry)
    finally:
        if work.exists():
            shutil.rmtree(work)
    for old in root().glob(f"{kind}-*"):
        if old != entry and old.is_dir():
            shutil.rmtree(old)
