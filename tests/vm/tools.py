"""Debian packages that the tool itself needs on the machine it runs on."""

from __future__ import annotations

import os
import shutil

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
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def program(name: str) -> str:
    """The full path of a program, also where /sbin is not on the PATH."""
    return shutil.which(name, path=SEARCH) or name


def ensure(*names: str) -> None:
    """Install the packages of those programs that are missing."""
    missing = sorted({PROGRAMS[name] for name in names if not shutil.which(name, path=SEARCH)})
    if not missing:
        return
    if os.geteuid() != 0:
        raise VmError(
            f"the emulated host needs {' '.join(missing)}: not installed, and only root can "
            f"install it: run apt-get install {' '.join(missing)}"
        )
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    with progress(f"installing {' '.join(missing)}", 15):
        try:
            run(install, "install the tool's packages", timeout=600, env=env)
        except VmError:
            # A fresh machine has no package lists, or ones whose files have moved on.
            run(["apt-get", "update"], "read the package lists", timeout=300, env=env)
            run(install, "install the tool's packages", timeout=600, env=env)
