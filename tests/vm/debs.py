"""Packages of Debian that an image does not have, for a guest, which has no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.vm import tools
from tests.vm.guest import Guest
from tests.vm.process import run
from tests.vm.release import Release

_FOLDER = "/var/tmp/debs"


def fetch(suite: str, names: Sequence[str], folder: Path) -> list[Path]:
    """Download packages of a release, without what they depend on."""
    tools.ensure("mmdebstrap")
    hook = f"cd {folder} && APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download {' '.join(names)}"
    # A tree without packages is nothing but apt's lists.
    words = [tools.program("mmdebstrap"), "--mode=root", "--variant=custom", "--format=null"]
    words += [f"--aptopt={option}" for option in Release(suite).apt_options]
    run([*words, f"--customize-hook={hook}", suite, "/dev/null"], "download packages", timeout=600)
    return sorted(folder.glob("*.deb"))


def install(guest: Guest, packages: Sequence[Path]) -> None:
    """Unpack and set up packages, whatever they ask for besides."""
    guest.run(f"mkdir -p {_FOLDER}")
    for package in packages:
        guest.put_bytes(f"{_FOLDER}/{package.name}", package.read_bytes())
    guest.run(f"dpkg --force-depends --install {_FOLDER}/*.deb && rm -r {_FOLDER}")
