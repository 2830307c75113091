"""Kernel modules that Debian does not build, out of the source of its own kernel."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from tests.vm import build, cache, tools
from tests.vm.image import Image
from tests.vm.process import progress, run_logged
from tests.vm.release import Release


def provide(name: str, suite: str, script: str) -> Path:
    """A folder of modules for the kernel of a release's image, built now when it is not there.

    `script` is for bash, in a tree that has the kernel's headers and its packed source in /usr/src;
    it is given the kernel's version, and leaves the modules in /built. Raises VmError.
    """
    kernel = _version(build.image(suite))
    entry = cache.root() / f"{name}-{cache.key([kernel, script])}"
    if not entry.exists():
        with cache.locked(name):
            if not entry.exists():
                _build(name, suite, kernel, script, entry)
    return entry


def _version(image: Image) -> str:
    """As in "7.2.12+deb14-amd64". Documentation/arch/x86/boot.rst, kernel_version"""
    data = image.kernel.read_bytes()[: 1 << 16]
    (offset,) = struct.unpack_from("<H", data, 0x20E)
    return data[offset + 0x200 :].split(b" ", 1)[0].decode()


def _build(name: str, suite: str, kernel: str, script: str, entry: Path) -> None:
    tools.ensure("mmdebstrap", "unshare", "setpriv")
    log = cache.root() / f"{name}.log"
    log.unlink(missing_ok=True)
    source = ".".join(kernel.split(".")[:2])
    packages = [f"linux-headers-{kernel}", f"linux-source-{source}", "make", "xz-utils"]
    with (
        progress(f"{suite}: building {name} for its kernel", 240),
        cache.new_entry(name, entry) as work,
    ):
        (work / "build.sh").write_text(script, encoding="utf-8")
        words = [tools.program("mmdebstrap"), "--mode=root", "--variant=essential"]
        words += ["--format=directory", f"--include={','.join(packages)}"]
        words += [f"--aptopt={option}" for option in Release(suite).apt_options]
        words += [f'--customize-hook=chroot "$1" bash -s {kernel} < {work / "build.sh"}']
        run_logged(
            [*words, suite, str(work / "root")],
            f"build {name} for Linux {kernel} (if the mirror has a newer one by now, remove the "
            "cached image and build again)",
            timeout=1800,
            log=log,
        )
        for path in sorted((work / "root/built").iterdir()):
            shutil.move(path, work)
        shutil.rmtree(work / "root")
