"""A built guest: the files a boot needs, in one folder of the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Image:
    """One release's disk, kernel and keys."""

    suite: str
    folder: Path

    @property
    def disk(self) -> Path:
        """The pristine ext4 disk: booted with throwaway writes only."""
        return self.folder / "disk.img"

    @property
    def kernel(self) -> Path:
        """The release's own kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk that goes with the kernel."""
        return self.folder / "initrd.img"

    @property
    def identity(self) -> Path:
        """The ssh key that opens root and the user in this guest."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The guest's own ssh host key, under the name of its release."""
        return self.folder / "known_hosts"


@dataclass(frozen=True)
class Saved:
    """A guest that was put aside while it ran."""

    folder: Path

    @property
    def disk(self) -> Path:
        """What it has written, on top of the disk that it was booted from."""
        return self.folder / "disk.qcow2"

    @property
    def memory(self) -> Path:
        """Its memory, and the state of its devices."""
        return self.folder / "memory"

    @property
    def versions(self) -> Path:
        """The versions of the packages that matter, see versions.py."""
        return self.folder / "versions"
