"""Debian packages that the tool itself needs on the machine it runs on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.vm.process import VmError, progress, run

# Program that must be there -> Debian package that brings it.
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "qemu-img": "qemu-utils",
    "mkfs.vfat": "dosfstools",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
# The keys of Debian's archive, which mmdebstrap's package does not bring on other systems.
KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def program(name: str) -> str:
    """The full path of a program, also where /sbin is not on the PATH."""
    return shutil.which(name, path=SEARCH) or name


def ensure(*names: str) -> None:
    """Install the packages of those programs that are missing, and Debian's keys."""
    wanted = {PROGRAMS[name] for name in names if not shutil.which(name, path=SEARCH)}
    if "mmdebstrap" in names and not KEYS.exists():
        wanted.add("debian-archive-keyring")
    if not wanted:
        return
    missing = sorted(wanted)
    packages = " ".join(missing)
    if os.geteuid() != 0:
        raise VmError(
            f"the emulated host needs {packages}: not installed, and only root can "
            f"install it: run apt-get install {packages}"
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    task = f"install {packages}, which the emulated host needs"
    with progress(f"installing {packages}", 15):
        try:
            run(install, task, timeout=600, env=env)
        except VmError:
            # A fresh machine has no package lists, or ones whose files have moved on.
            run(["apt-get", "update"], "read the package lists", timeout=300, env=env)
            run(install, task, timeout=600, env=env)
