"""A release's root file system, from Debian's packages to an ext4 disk image."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.vm import tools
from tests.vm.image import Image
from tests.vm.process import VmError, progress, run, run_logged
from tests.vm.release import EXCLUDED, SETUP, Release

DISK_SIZE = "8G"


def make(release: Release, image: Image, log: Path) -> None:
    """Fill the (empty) folder of `image` with everything that a boot needs."""
    work = image.folder / "work"
    overlay, root = work / "overlay", work / "root"
    overlay.mkdir(parents=True)
    _keys(image, overlay)
    for name, text in release.files().items():
        target = overlay / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (work / "setup.sh").write_text(SETUP, encoding="utf-8")
    with progress(f"{release.suite}: installing Debian's packages", 90):
        _bootstrap(release, work, log)
    _boot_files(root, image)
    host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text(encoding="utf-8")
    image.known_hosts.write_text(f"{release.hostname} {host_key}", encoding="utf-8")
    with progress(f"{release.suite}: writing the disk image", 10):
        run(
            [
                *(tools.program("mkfs.ext4"), "-q", "-F", "-m", "0", "-L", "root"),
                # A throwaway disk needs no journal: it only writes everything twice.
                *("-O", "^has_journal", "-E", "root_owner=0:0"),
                *("-d", str(root), str(image.disk), DISK_SIZE),
            ],
            f"write the disk image of {release.suite}",
            timeout=600,
        )
    shutil.rmtree(work)


def _keys(image: Image, overlay: Path) -> None:
    run(
        [
            *(tools.program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "emulated-host"),
            *("-f", str(image.identity)),
        ],
        f"make the ssh key of the emulated host {image.suite}",
        timeout=30,
    )
    (overlay / "tmp").mkdir(mode=0o1777)
    (overlay / "tmp").chmod(0o1777)
    shutil.copy(image.identity.with_suffix(".pub"), overlay / "tmp/authorized_keys")


def _bootstrap(release: Release, work: Path, log: Path) -> None:
    root = work / "root"
    # No mirror is named: mmdebstrap then takes Debian's own for the suite.
    words = [tools.program("mmdebstrap"), "--mode=root", "--variant=minbase"]
    words += ["--format=directory", f"--include={','.join(release.packages)}"]
    words += [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    words += [f"--aptopt={option}" for option in release.apt_options]
    words += [
        # Before the packages, so that the kernel's initrd is made once, with our settings.
        f'--essential-hook=cp -r --preserve=mode {work / "overlay"}/. "$1"/',
        f'--customize-hook=chroot "$1" sh -s < {work / "setup.sh"}',
    ]
    run_logged(
        [*words, release.suite, str(root)],
        f"install the packages of the emulated host {release.suite}",
        timeout=1800,
        log=log,
    )


def _boot_files(root: Path, image: Image) -> None:
    for pattern, target in (("vmlinuz-*", image.kernel), ("initrd.img-*", image.initrd)):
        found = sorted((root / "boot").glob(pattern))
        if len(found) != 1:
            raise VmError(
                f"cannot boot {image.suite}: its /boot has {len(found)} files {pattern}, "
                "not one; remove the cached image and build again"
            )
        shutil.copyfile(found[0], target)
